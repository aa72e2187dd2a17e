// The trace on the disk: trace.db, one writer. Steps of mail stand in the order in which they came,
// in segments of some ten thousand; a look-up asks each segment's index, the newest first. What is
// too old or too much goes by whole segments, in slices.
//
//   segment  number lane begin end steps bytes dying     times of its first and last steps
//   chunk    sequence = segment * kSegmentSteps + place of its first step, bytes (encode_chunk())
//   run, block   the index (trace_index.h)
#pragma once

#include "events/kept_database.h"
#include "events/trace_index.h"
#include "events/trace_record.h"

#include "base/time.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace postrider::events {

inline constexpr std::int64_t kSegmentSteps = 1 << 16;
inline constexpr std::size_t kChunkBytes = 16384;  // about: of the steps in a row

// Appends a step to a chunk.
void append_step(std::string_view step, std::string& chunk);
// The steps of a chunk, as far as they can be read.
std::vector<std::string> steps_of(std::string_view chunk);

extern const KeptFormat kTraceFormat;

struct TraceLimits {
  Duration keep{std::chrono::hours(24 * 7)};
  std::uint64_t size = 1U << 30U;  // octets of the file; of these a quarter at most is of refusals
  std::uint64_t room = 0;          // below so much free disk the trace gives way to mail
};

class TraceStore {
 public:
  static Result<TraceStore> open(const std::string& path, TraceLimits limits, const char* vfs,
                                 KeptDatabase::Check check);

  void limit(TraceLimits limits) { limits_ = limits; }
  // All of them, in this order, or none. What cannot be read is passed over.
  Result<void> append(const std::vector<std::string>& lines);
  // A slice of what is beyond the limits goes: some milliseconds. True: there is more to go.
  Result<bool> trim(TimePoint now);
  Result<void> checkpoint() { return kept_.checkpoint(); }
  bool is_replaced() const { return kept_.is_replaced(); }

 private:
  // The segment of a lane that is being filled. number 0: none yet.
  struct Open {
    std::int64_t number = 0, steps = 0, begin = 0, end = 0, bytes = 0;
  };
  // What a batch adds to it and is not written yet.
  struct Added {
    std::int64_t first = 0;  // place of the chunk's first step
    std::string chunk;       // encode_step() of each
    std::vector<TraceEntry> entries;
  };

  TraceStore() = default;
  Result<void> prepare();
  bool is_full(const Open& open, std::int64_t time) const;
  Result<void> begin_segment(TraceLane lane, std::int64_t time);
  Result<void> write(const std::vector<std::string>& lines);
  Result<void> add(const std::string& bytes);
  Result<void> write_chunk(const Open& open, Added& added);
  Result<void> settle(const Open& open, Added& added);
  Result<std::int64_t> used();
  Result<std::int64_t> next_victim(TimePoint now);
  Result<bool> shrink(std::int64_t segment);
  Result<void> mark_dying(std::int64_t segment);

  KeptDatabase kept_;
  TraceIndexWriter index_;
  queue::Statement begin_, save_, chunk_, dying_, mark_, oldest_, too_old_, refused_;
  queue::Statement forget_chunks_, forget_segment_, chunks_left_;
  TraceLimits limits_;
  std::int64_t last_segment_ = 0;
  std::array<Open, 2> open_;  // of each lane
  std::array<Added, 2> added_;
};

}  // namespace postrider::events
