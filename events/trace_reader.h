// Look-ups in the trace, from any thread and any process that may read the file, with a connection
// of their own. Each call is one short look: nothing is held between them, and what has been pruned
// meanwhile is simply not there.
#pragma once

#include "events/kept_database.h"
#include "events/trace_index.h"
#include "events/trace_query.h"

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace postrider::events {

struct TraceSegment {
  std::int64_t number = 0;
  std::int64_t steps = 0;
  TimePoint begin, end;
};

class TraceReader {
 public:
  using Places = std::vector<std::int64_t>;

  // Errc::not_found: there is none.
  static Result<TraceReader> open(const std::string& path);

  // The oldest first.
  Result<std::vector<TraceSegment>> segments(TraceLane lane);
  // How far it goes back; nothing: it is empty.
  Result<std::optional<TimePoint>> begin();
  // Where steps with a key of the range stand in a segment, in order.
  Result<Places> places(std::int64_t segment, TraceKeyRange range);
  // nullopt: it is gone, or cannot be read.
  Result<std::optional<queue::FactLine>> step(std::int64_t segment, std::int64_t place);

 private:
  TraceReader() = default;
  // Whether the steps at hand are now those among which that one stands, if it is there.
  Result<bool> fetch(std::int64_t sequence);

  queue::Database database_;
  TraceIndexReader index_;
  queue::Statement segments_, begin_, chunk_;
  std::int64_t first_ = 0;  // sequence of the first of the steps at hand
  std::vector<std::string> steps_;
};

// Steps that match, the newest first, each by itself. One that has the Message-ID that is asked for
// is found whatever else is: of that, other steps of its message may speak.
class TraceSearch {
 public:
  // The reader outlives it.
  TraceSearch(TraceReader& reader, TraceQuery query) : reader_(&reader), query_(std::move(query)) {}

  // Appends what it finds, at most so many, and looks no longer than `limit`. False: that was all.
  Result<bool> next(std::size_t most, Duration limit, std::vector<queue::FactLine>& found);

 private:
  Result<bool> next_segment();
  Result<TraceReader::Places> places_in(const TraceSegment& segment);
  Result<TraceReader::Places> union_in(std::int64_t segment,
                                       std::initializer_list<TraceKeyRange> ranges);

  TraceReader* reader_;
  TraceQuery query_;
  bool has_begun_ = false;
  std::vector<TraceSegment> segments_;  // still to be looked at; the newest behind
  std::int64_t segment_ = 0;
  TraceReader::Places places_;  // of it, still to be looked at; the newest behind
};

// The steps of one message, in their order.
class TraceStory {
 public:
  TraceStory(TraceReader& reader, std::string id, std::vector<TraceSegment> segments);
  // At most so many more. False: that was all.
  Result<bool> next(std::size_t most, std::vector<queue::FactLine>& steps);

 private:
  TraceReader* reader_;
  std::string id_;
  std::vector<TraceSegment> segments_;
  std::size_t segment_ = 0;  // which is next
  TraceReader::Places places_;
  std::size_t place_ = 0;
};

}  // namespace postrider::events
