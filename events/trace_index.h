// The index of the trace: for each segment sorted runs of keys and places, in blocks of a page each.
// A batch writes one small run. Runs become fewer by merging: sixteen of one level are one of the
// next, and those of a full segment are one. So a look-up asks few of them, and a key is written some
// four times at most, always beside others. One thread a connection.
//
//   run    number = segment * kRuns + n, level, block (the number of its first one),
//          firsts (the first key of each of its blocks)
//   block  number, bytes (encode_block())
//
// Their tables are made with the others of the trace (trace_store.cc).
#pragma once

#include "events/trace_record.h"

#include "queue/store/sqlite.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::events {

inline constexpr std::int64_t kRuns = 1 << 18;  // of a segment at most: it has fewer batches

struct TraceEntry {
  TraceKey key = 0;
  std::uint16_t place = 0;  // of a step in its segment
  auto operator<=>(const TraceEntry&) const = default;
};

inline constexpr std::size_t kEntryBytes = 10;
inline constexpr std::size_t kBlockEntries = 400;  // so that a block is a page of the file

// Big-endian, one behind another.
std::string encode_block(const TraceEntry* entries, std::size_t count);
// What is behind the last whole entry is left out.
std::vector<TraceEntry> decode_block(std::string_view bytes);

// What the one who writes does, within transactions of his own. It keeps nothing in memory.
class TraceIndexWriter {
 public:
  Result<void> prepare(queue::Database& database);
  // Of a batch, in any order.
  Result<void> add(std::int64_t segment, std::vector<TraceEntry> entries);
  // The segment is full.
  Result<void> close(std::int64_t segment);
  // A slice of the segment's index goes. False: nothing of it is left.
  Result<bool> shrink(std::int64_t segment);

 private:
  struct Run {
    std::int64_t number = 0, level = 0, block = 0, blocks = 0;
  };

  Result<std::vector<Run>> runs(std::int64_t segment);
  Result<void> write(std::int64_t segment, std::int64_t level,
                     const std::vector<TraceEntry>& entries);
  Result<void> read(const Run& run, std::vector<TraceEntry>& entries);
  Result<void> forget(const Run& run);
  Result<void> merge(std::int64_t segment, const std::vector<Run>& runs, std::int64_t level);

  queue::Statement runs_, last_run_, last_block_, add_run_, add_block_, blocks_, forget_blocks_,
      forget_run_, first_block_;
};

// What look-ups do. The caller holds a transaction: a run may be merged away at any time.
class TraceIndexReader {
 public:
  Result<void> prepare(queue::Database& database);
  // Where steps with a key of the range stand in a segment: in order, each once.
  Result<std::vector<std::int64_t>> places(std::int64_t segment, TraceKeyRange range);

 private:
  queue::Statement runs_, block_;
};

}  // namespace postrider::events
