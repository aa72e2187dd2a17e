#include "events/trace_store.h"

#include <algorithm>
#include <cstdlib>

namespace postrider::events {

using queue::Query;
using queue::Transaction;

namespace {

constexpr const char* kTables =
    "CREATE TABLE segment(number INTEGER PRIMARY KEY, lane INTEGER NOT NULL,"
    " begin INTEGER NOT NULL, end INTEGER NOT NULL, steps INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, dying INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE step(sequence INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;"
    "CREATE TABLE place(segment INTEGER NOT NULL, key INTEGER NOT NULL, place INTEGER NOT NULL,"
    " PRIMARY KEY(segment, key, place)) STRICT, WITHOUT ROWID;"
    "PRAGMA application_id=0x50525452; PRAGMA user_version=1;";  // "PRTR"

constexpr std::int64_t kSlice = 4096;  // rows that go at a time
constexpr int kParts = 16;             // of what is kept, that go at a time

std::int64_t count_of(TimePoint time) {
  return time.time_since_epoch().count();
}

}  // namespace

const KeptFormat kTraceFormat{0x50525452, 1, kTables};

Result<TraceStore> TraceStore::open(const std::string& path, TraceLimits limits, const char* vfs,
                                    KeptDatabase::Check check) {
  TraceStore store;
  store.limits_ = limits;
  auto kept = KeptDatabase::open(path, kTraceFormat, vfs, check);
  if (!kept)
    return kept.error();
  store.kept_ = *std::move(kept);
  if (auto done = store.prepare(); !done)
    return done.error().during("open " + path);
  return store;
}

Result<void> TraceStore::prepare() {
  auto& database = kept_.database();
  if (auto done = database.execute("PRAGMA cache_size=-16384"); !done)
    return done.error();
  if (auto done = prepare_all(
          database,
          {{begin_,
            "INSERT INTO segment(number, lane, begin, end, steps, bytes)"
            " VALUES(?, ?, ?, ?, 0, 0)"},
           {save_, "UPDATE segment SET begin = ?, end = ?, steps = ?, bytes = ? WHERE number = ?"},
           {step_, "INSERT INTO step(sequence, bytes) VALUES(?, ?)"},
           {place_, "INSERT INTO place(segment, key, place) VALUES(?, ?, ?)"},
           {dying_, "SELECT number FROM segment WHERE dying = 1 ORDER BY number LIMIT 1"},
           {mark_, "UPDATE segment SET dying = 1 WHERE number = ?"},
           {oldest_, "SELECT number FROM segment WHERE dying = 0 ORDER BY number LIMIT 1"},
           {too_old_,
            // Whatever stands before what is too old, though the clock was ahead then.
            "SELECT number FROM segment WHERE dying = 0 AND EXISTS("
            "SELECT 1 FROM segment AS later WHERE later.lane = segment.lane AND"
            " later.number >= segment.number AND later.dying = 0 AND later.end < ?)"
            " ORDER BY number LIMIT 1"},
           {refused_,
            "SELECT number, (SELECT sum(bytes) FROM segment WHERE lane = 1) FROM segment"
            " WHERE dying = 0 AND lane = 1 ORDER BY number LIMIT 1"},
           {last_key_, "SELECT key FROM place WHERE segment = ? ORDER BY key LIMIT 1 OFFSET ?"},
           {forget_keys_, "DELETE FROM place WHERE segment = ? AND key <= ?"},
           {steps_left_,
            "SELECT sequence FROM step WHERE sequence >= ? AND sequence < ?"
            " ORDER BY sequence LIMIT 1"},
           {forget_steps_, "DELETE FROM step WHERE sequence >= ? AND sequence < ?"},
           {forget_segment_, "DELETE FROM segment WHERE number = ?"}});
      !done)
    return done.error();
  auto segments = database.prepare(
      "SELECT number, lane, steps, begin, end, bytes FROM segment WHERE dying = 0 ORDER BY number");
  if (!segments)
    return segments.error();
  bool is_sound = true;
  auto read = Query(*segments).for_each([&](const Query& row) {
    const auto lane = row.integer(1);
    is_sound = is_sound && row.integer(0) > 0 && row.integer(0) < (std::int64_t{1} << 40) &&
               (lane == 0 || lane == 1) && row.integer(2) >= 0 && row.integer(2) <= kSegmentSteps;
    if (is_sound)
      open_[static_cast<std::size_t>(lane)] = {row.integer(0), row.integer(2), row.integer(3),
                                               row.integer(4), row.integer(5)};
  });
  if (!read)
    return read.error();
  if (!is_sound)
    return damaged_file("a segment is none");
  const auto last = database.value("SELECT coalesce(max(number), 0) FROM segment");
  if (!last)
    return last.error();
  last_segment_ = *last;
  return {};
}

// Small ones where little is kept, or for a short time: they go as a whole.
bool TraceStore::is_full(const Open& open, std::int64_t time) const {
  return open.number == 0 || open.steps >= kSegmentSteps ||
         open.bytes >= static_cast<std::int64_t>(limits_.size) / (2 * kParts) ||
         std::abs(time - open.begin) >= limits_.keep.count() / kParts;
}

Result<void> TraceStore::begin_segment(TraceLane lane, std::int64_t time) {
  ++last_segment_;
  Query query(begin_);
  query.bind(last_segment_).bind(static_cast<std::int64_t>(lane)).bind(time).bind(time);
  if (auto done = query.run(); !done)
    return done.error();
  open_[static_cast<std::size_t>(lane)] = {last_segment_, 0, time, time, 0};
  return {};
}

Result<void> TraceStore::save(const Open& open) {
  Query query(save_);
  query.bind(open.begin).bind(open.end).bind(open.steps).bind(open.bytes).bind(open.number);
  return query.run();
}

Result<void> TraceStore::add(const std::string& bytes) {
  const auto line = queue::decode_fact(bytes);
  if (!line)
    return {};
  const auto lane = lane_of(*line);
  auto& open = open_[static_cast<std::size_t>(lane)];
  const auto time = count_of(line->when);
  if (is_full(open, time)) {
    if (open.number != 0)
      if (auto done = save(open); !done)
        return done.error();
    if (auto done = begin_segment(lane, time); !done)
      return done.error();
  }
  const auto sequence = open.number * kSegmentSteps + open.steps++;
  open.begin = std::min(open.begin, time);
  open.end = std::max(open.end, time);
  Query query(step_);
  if (auto done = query.bind(sequence).bind_blob(bytes).run(); !done)
    return done.error();
  const auto keys = keys_of(*line);
  for (const auto key : keys)
    keys_.emplace_back(key, sequence);
  constexpr std::size_t kOfKey = 24, kOfStep = 12;  // about, on the disk
  open.bytes += static_cast<std::int64_t>(bytes.size() + kOfStep + keys.size() * kOfKey);
  return {};
}

// Keys go into the index in its order: each of its pages is changed once.
Result<void> TraceStore::append(const std::vector<std::string>& lines) {
  const auto before = open_;
  const auto last_before = last_segment_;
  const auto write = [&]() -> Result<void> {
    auto transaction = Transaction::begin(kept_.database());
    if (!transaction)
      return transaction.error();
    for (const auto& line : lines)
      if (auto done = add(line); !done)
        return done.error();
    std::sort(keys_.begin(), keys_.end(), [](const auto& a, const auto& b) {
      const auto segment = a.second / kSegmentSteps, other = b.second / kSegmentSteps;
      return segment != other ? segment < other : a < b;
    });
    for (const auto& [key, sequence] : keys_) {
      Query query(place_);
      query.bind(sequence / kSegmentSteps).bind(static_cast<std::int64_t>(key));
      if (auto done = query.bind(sequence % kSegmentSteps).run(); !done)
        return done.error();
    }
    for (const auto& open : open_)
      if (open.number != 0)
        if (auto done = save(open); !done)
          return done.error();
    return transaction->commit();
  };
  keys_.clear();
  auto done = write();
  keys_.clear();
  if (done)
    return {};
  open_ = before;
  last_segment_ = last_before;
  // Its place is taken: what says how many there are is wrong.
  return queue::is_constraint(done.error()) ? damaged_file(done.error().describe().c_str())
                                            : done.error();
}

Result<std::int64_t> TraceStore::used() {
  const auto pages = kept_.database().value("PRAGMA page_count");
  const auto unused = kept_.database().value("PRAGMA freelist_count");
  if (!pages || !unused)
    return pages ? unused.error() : pages.error();
  return (*pages - *unused) * 4096;
}

// 0: all may stay.
Result<std::int64_t> TraceStore::next_victim(TimePoint now) {
  if (auto dying = Query(dying_).first(0); !dying || *dying != 0)
    return dying;
  Query by_age(too_old_);
  if (auto old = by_age.bind(count_of(now - limits_.keep)).first(0); !old || *old != 0)
    return old;
  const auto size = static_cast<std::int64_t>(limits_.size);
  {
    Query query(refused_);
    const auto row = query.next();
    if (!row)
      return row.error();
    if (*row && query.integer(1) > size / 4)
      return query.integer(0);
  }
  const auto taken = used();
  if (!taken)
    return taken.error();
  if (*taken > size || kept_.is_room_short(limits_.room))
    return Query(oldest_).first(0);
  return 0;
}

Result<void> TraceStore::mark_dying(std::int64_t segment) {
  if (auto done = Query(mark_).bind(segment).run(); !done)
    return done.error();
  for (auto& open : open_)
    if (open.number == segment)
      open = {};
  return {};
}

// False: nothing of it is left.
Result<bool> TraceStore::shrink(std::int64_t segment) {
  {
    Query query(last_key_);
    query.bind(segment).bind(kSlice);
    const auto row = query.next();
    if (!row)
      return row.error();
    const bool is_last = !*row;
    const auto up_to = is_last ? INT64_MAX : query.integer(0);
    Query forget(forget_keys_);
    if (auto done = forget.bind(segment).bind(up_to).run(); !done)
      return done.error();
    if (!is_last)
      return true;
  }
  const auto end = (segment + 1) * kSegmentSteps;
  Query left(steps_left_);
  const auto first = left.bind(segment * kSegmentSteps).bind(end).first(-1);
  if (!first)
    return first.error();
  if (*first >= 0) {
    Query forget(forget_steps_);
    if (auto done = forget.bind(*first).bind(std::min(end, *first + kSlice)).run(); !done)
      return done.error();
    return true;
  }
  if (auto done = Query(forget_segment_).bind(segment).run(); !done)
    return done.error();
  return false;
}

Result<bool> TraceStore::trim(TimePoint now) {
  const auto victim = next_victim(now);
  if (!victim)
    return victim.error();
  if (*victim == 0)
    return false;
  const auto before = open_;
  auto transaction = Transaction::begin(kept_.database());
  if (!transaction)
    return transaction.error();
  auto done = mark_dying(*victim);
  if (done)
    if (auto left = shrink(*victim); !left)
      done = left.error();
  if (done)
    done = transaction->commit();
  if (!done) {
    open_ = before;
    return done.error();
  }
  if (auto given = kept_.checkpoint(); !given)
    return given.error();
  return true;
}

}  // namespace postrider::events
