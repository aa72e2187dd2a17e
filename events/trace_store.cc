#include "events/trace_store.h"

#include "base/packing.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace postrider::events {

using queue::Query;
using queue::Transaction;

namespace {

constexpr const char* kTables =
    "CREATE TABLE segment(number INTEGER PRIMARY KEY, lane INTEGER NOT NULL,"
    " begin INTEGER NOT NULL, end INTEGER NOT NULL, steps INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, dying INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE chunk(sequence INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;"
    "CREATE TABLE run(number INTEGER PRIMARY KEY, level INTEGER NOT NULL, block INTEGER NOT NULL,"
    " firsts BLOB NOT NULL) STRICT;"
    "CREATE TABLE block(number INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;"
    "PRAGMA application_id=0x50525452; PRAGMA user_version=2;";  // "PRTR"

constexpr std::int64_t kSlice = 4096;  // steps that go at a time
constexpr std::size_t kMostStep = std::size_t{1} << 24U;
constexpr int kParts = 16;  // of what is kept, that go at a time

std::int64_t count_of(TimePoint time) {
  return time.time_since_epoch().count();
}

}  // namespace

const KeptFormat kTraceFormat{0x50525452, 2, kTables};

void append_step(std::string_view step, std::string& chunk) {
  Packer packer(step.size() + 4);
  packer.text(step);
  chunk += packer.take();
}

std::vector<std::string> steps_of(std::string_view chunk) {
  std::vector<std::string> steps;
  Unpacker unpacker(chunk);
  while (!unpacker.done()) {
    const auto step = unpacker.text(kMostStep);
    if (step.empty())
      break;  // none is
    steps.emplace_back(step);
  }
  return steps;
}

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
           {chunk_, "INSERT INTO chunk(sequence, bytes) VALUES(?, ?)"},
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
           {chunks_left_,
            "SELECT sequence FROM chunk WHERE sequence >= ? AND sequence < ?"
            " ORDER BY sequence LIMIT 1"},
           {forget_chunks_, "DELETE FROM chunk WHERE sequence >= ? AND sequence < ?"},
           {forget_segment_, "DELETE FROM segment WHERE number = ?"}});
      !done)
    return done.error();
  if (auto done = index_.prepare(database); !done)
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

Result<void> TraceStore::write_chunk(const Open& open, Added& added) {
  if (added.chunk.empty())
    return {};
  Query query(chunk_);
  auto done = query.bind(open.number * kSegmentSteps + added.first).bind_blob(added.chunk).run();
  added.chunk.clear();
  added.first = open.steps;
  return done;
}

// What was added to the segment is written.
Result<void> TraceStore::settle(const Open& open, Added& added) {
  if (open.number == 0)
    return {};
  if (auto done = write_chunk(open, added); !done)
    return done.error();
  if (auto done = index_.add(open.number, std::exchange(added.entries, {})); !done)
    return done.error();
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
  auto& added = added_[static_cast<std::size_t>(lane)];
  const auto time = count_of(line->when);
  if (is_full(open, time)) {
    if (auto done = settle(open, added); !done)
      return done.error();
    if (auto done = index_.close(open.number); !done)
      return done.error();
    if (auto done = begin_segment(lane, time); !done)
      return done.error();
    added.first = 0;
  }
  const auto place = static_cast<std::uint16_t>(open.steps++);
  open.begin = std::min(open.begin, time);
  open.end = std::max(open.end, time);
  append_step(bytes, added.chunk);
  const auto keys = keys_of(*line);
  for (const auto key : keys)
    added.entries.push_back({key, place});
  constexpr std::size_t kOfStep = 4;  // about, on the disk
  open.bytes += static_cast<std::int64_t>(bytes.size() + kOfStep + keys.size() * kEntryBytes);
  if (added.chunk.size() < kChunkBytes)
    return {};
  return write_chunk(open, added);
}

Result<void> TraceStore::write(const std::vector<std::string>& lines) {
  auto transaction = Transaction::begin(kept_.database());
  if (!transaction)
    return transaction.error();
  for (std::size_t lane = 0; lane < open_.size(); ++lane)
    added_[lane] = {open_[lane].steps, {}, {}};
  for (const auto& line : lines)
    if (auto done = add(line); !done)
      return done.error();
  for (std::size_t lane = 0; lane < open_.size(); ++lane)
    if (auto done = settle(open_[lane], added_[lane]); !done)
      return done.error();
  return transaction->commit();
}

Result<void> TraceStore::append(const std::vector<std::string>& lines) {
  const auto before = open_;
  const auto last_before = last_segment_;
  auto done = write(lines);
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
  if (auto more = index_.shrink(segment); !more || *more)
    return more;
  const auto end = (segment + 1) * kSegmentSteps;
  Query left(chunks_left_);
  const auto first = left.bind(segment * kSegmentSteps).bind(end).first(-1);
  if (!first)
    return first.error();
  if (*first >= 0) {
    Query forget(forget_chunks_);
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
