#include "events/trace_reader.h"

#include "events/trace_store.h"

#include "base/text.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <numeric>

namespace postrider::events {

using queue::Database;
using queue::Query;

namespace {

using Places = TraceReader::Places;

Places intersection(const Places& a, const Places& b) {
  Places both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

void unite(Places& all, const Places& more) {
  Places both;
  std::set_union(all.begin(), all.end(), more.begin(), more.end(), std::back_inserter(both));
  all = std::move(both);
}

bool is_domain(std::string_view pattern) {
  return pattern.size() > 1 && pattern.front() == '@';
}

TraceKeyRange senders(const std::string& pattern) {
  if (is_domain(pattern))
    return keys_of_senders(std::string_view(pattern).substr(1));
  return {key_of_sender(pattern), key_of_sender(pattern)};
}

TraceKeyRange recipients(const std::string& pattern) {
  if (is_domain(pattern))
    return keys_of_recipients(std::string_view(pattern).substr(1));
  return {key_of_recipient(pattern), key_of_recipient(pattern)};
}

TimePoint time_of(std::int64_t count) {
  return TimePoint(Duration(count));
}

}  // namespace

Result<TraceReader> TraceReader::open(const std::string& path) {
  TraceReader reader;
  if (inode_of(path) == 0)
    return Error(Errc::not_found, "open " + path);
  if (auto fit = look_at_files(path); !fit)
    return fit.error();
  auto database = Database::open(path, Database::Mode::reader);
  if (!database)
    return database.error();
  reader.database_ = *std::move(database);
  for (const char* sql : {"PRAGMA query_only=ON", "PRAGMA busy_timeout=5000", "PRAGMA mmap_size=0",
                          "PRAGMA cache_size=-8192"})
    if (auto done = reader.database_.execute(sql); !done)
      return done.error().during(sql);
  if (auto fit = check_format(reader.database_, kTraceFormat); !fit)
    return fit.error();
  if (auto done = prepare_all(
          reader.database_,
          {{reader.segments_,
            "SELECT number, steps, begin, end FROM segment"
            " WHERE dying = 0 AND lane = ? AND number BETWEEN 1 AND 1099511627776 ORDER BY number"},
           {reader.begin_, "SELECT min(begin) FROM segment WHERE dying = 0 AND steps > 0"},
           {reader.chunk_,
            "SELECT sequence, bytes FROM chunk WHERE sequence <= ? ORDER BY sequence DESC LIMIT "
            "1"}});
      !done)
    return done.error();
  if (auto done = reader.index_.prepare(reader.database_); !done)
    return done.error();
  return reader;
}

Result<std::vector<TraceSegment>> TraceReader::segments(TraceLane lane) {
  Query query(segments_);
  query.bind(static_cast<std::int64_t>(lane));
  return query.rows([](const Query& row) {
    return TraceSegment{row.integer(0), std::clamp<std::int64_t>(row.integer(1), 0, kSegmentSteps),
                        time_of(row.integer(2)), time_of(row.integer(3))};
  });
}

Result<std::optional<TimePoint>> TraceReader::begin() {
  Query query(begin_);
  const auto row = query.next();
  if (!row)
    return row.error();
  if (!*row || query.is_null(0))
    return std::optional<TimePoint>();
  return std::optional(time_of(query.integer(0)));
}

Result<Places> TraceReader::places(std::int64_t segment, TraceKeyRange range) {
  const auto transaction = queue::Transaction::begin_reading(database_);
  if (!transaction)
    return transaction.error();
  return index_.places(segment, range);
}

Result<bool> TraceReader::fetch(std::int64_t sequence) {
  const auto is_at_hand = [&] {
    return sequence >= first_ && sequence - first_ < static_cast<std::int64_t>(steps_.size());
  };
  if (is_at_hand())
    return true;
  Query query(chunk_);
  const auto row = query.bind(sequence).next();
  if (!row)
    return row.error();
  if (!*row)
    return false;
  first_ = query.integer(0);
  if (first_ < sequence - kSegmentSteps)
    return false;  // of another segment
  steps_ = steps_of(query.blob(1));
  return is_at_hand();
}

Result<std::optional<queue::FactLine>> TraceReader::step(std::int64_t segment, std::int64_t place) {
  const auto sequence = segment * kSegmentSteps + place;
  const auto found = fetch(sequence);
  if (!found)
    return found.error();
  if (!*found)
    return std::optional<queue::FactLine>();
  auto line = queue::decode_fact(steps_[static_cast<std::size_t>(sequence - first_)]);
  return line ? std::optional(*std::move(line)) : std::nullopt;
}

Result<Places> TraceSearch::union_in(std::int64_t segment,
                                     std::initializer_list<TraceKeyRange> ranges) {
  Places all;
  for (const auto& range : ranges) {
    const auto some = reader_->places(segment, range);
    if (!some)
      return some.error();
    unite(all, *some);
  }
  return all;
}

// What all the indexes say together; without one, all steps.
Result<Places> TraceSearch::places_in(const TraceSegment& segment) {
  std::optional<Places> found;
  const auto restrict = [&](std::initializer_list<TraceKeyRange> ranges) -> Result<void> {
    auto places = union_in(segment.number, ranges);
    if (!places)
      return places.error();
    found = found ? intersection(*found, *places) : *std::move(places);
    return {};
  };
  const bool is_too_old = query_.since && segment.end < *query_.since;
  if (is_too_old)
    found.emplace();
  if (!is_too_old && query_.from)
    if (auto done = restrict({senders(*query_.from)}); !done)
      return done.error();
  if (!is_too_old && query_.to)
    if (auto done = restrict({recipients(*query_.to)}); !done)
      return done.error();
  if (query_.any) {
    if (!is_too_old)
      if (auto done = restrict({senders(*query_.any), recipients(*query_.any)}); !done)
        return done.error();
    const auto id = key_of_message_id(*query_.any);
    const auto named = union_in(segment.number, {{id, id}});
    if (!named)
      return named.error();
    unite(*found, *named);
  }
  if (found)
    return *std::move(found);
  Places all(static_cast<std::size_t>(segment.steps));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// False: there is none.
Result<bool> TraceSearch::next_segment() {
  if (!has_begun_) {
    auto segments = reader_->segments(query_.rejected ? TraceLane::refused : TraceLane::mail);
    if (!segments)
      return segments.error();
    segments_ = *std::move(segments);
    has_begun_ = true;
  }
  while (!segments_.empty()) {
    const auto segment = segments_.back();
    segments_.pop_back();
    auto places = places_in(segment);
    if (!places)
      return places.error();
    segment_ = segment.number;
    places_ = *std::move(places);
    return true;
  }
  return false;
}

Result<bool> TraceSearch::next(std::size_t most, Duration limit,
                               std::vector<queue::FactLine>& found) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (std::size_t count = 0; count < most;) {
    if (places_.empty()) {
      const auto more = next_segment();
      if (!more || !*more)
        return more;
    } else {
      auto step = reader_->step(segment_, places_.back());
      if (!step)
        return step.error();
      places_.pop_back();
      if (*step && is_match(query_, **step)) {
        found.push_back(**std::move(step));
        ++count;
      }
    }
    if (std::chrono::steady_clock::now() >= end)
      break;
  }
  return true;
}

TraceStory::TraceStory(TraceReader& reader, std::string id, std::vector<TraceSegment> segments)
    : reader_(&reader), id_(std::move(id)), segments_(std::move(segments)) {}

Result<bool> TraceStory::next(std::size_t most, std::vector<queue::FactLine>& steps) {
  const auto key = key_of_message(id_);
  for (std::size_t count = 0; count < most;) {
    if (place_ >= places_.size()) {
      if (segment_ >= segments_.size())
        return false;
      auto places = reader_->places(segments_[segment_++].number, {key, key});
      if (!places)
        return places.error();
      places_ = *std::move(places);
      place_ = 0;
      continue;
    }
    auto step = reader_->step(segments_[segment_ - 1].number, places_[place_++]);
    if (!step)
      return step.error();
    if (*step && (equals_ignoring_case((*step)->id, id_) ||
                  equals_ignoring_case((*step)->value("notice"), id_))) {
      steps.push_back(**std::move(step));
      ++count;
    }
  }
  return true;
}

}  // namespace postrider::events
