#include "events/trace_index.h"

#include "events/kept_database.h"

#include <algorithm>

namespace postrider::events {

using queue::Query;

namespace {

constexpr std::size_t kKeyBytes = 8;
constexpr std::size_t kFan = 16;  // runs of a level, that become one
constexpr std::int64_t kBlocksOfSlice = 256;
constexpr std::int64_t kMostLevel = 64;
constexpr std::int64_t kMostBlock = std::int64_t{1} << 60;  // beyond that the file is damaged

char* put_big_endian(std::uint64_t value, std::size_t bytes, char* out) {
  for (std::size_t i = bytes; i-- > 0;)
    *out++ = static_cast<char>(value >> (8 * i));
  return out;
}

std::uint64_t big_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char c : bytes)
    value = (value << 8U) | static_cast<unsigned char>(c);
  return value;
}

// The first key of each block of a run.
class Firsts {
 public:
  explicit Firsts(std::string_view bytes) : bytes_(bytes) {}
  std::size_t size() const { return bytes_.size() / kKeyBytes; }
  TraceKey operator[](std::size_t i) const {
    return big_endian(bytes_.substr(i * kKeyBytes, kKeyBytes));
  }
  // The first block that may have the key: equal keys may begin in the block before their own.
  std::size_t find(TraceKey key) const {
    std::size_t low = 0, high = size();
    while (low < high) {
      const auto middle = low + (high - low) / 2;
      if ((*this)[middle] < key)
        low = middle + 1;
      else
        high = middle;
    }
    return low == 0 ? 0 : low - 1;
  }

 private:
  std::string_view bytes_;
};

}  // namespace

std::string encode_block(const TraceEntry* entries, std::size_t count) {
  std::string bytes(count * kEntryBytes, '\0');
  auto* out = bytes.data();
  for (std::size_t i = 0; i < count; ++i) {
    out = put_big_endian(entries[i].key, kKeyBytes, out);
    out = put_big_endian(entries[i].place, kEntryBytes - kKeyBytes, out);
  }
  return bytes;
}

std::vector<TraceEntry> decode_block(std::string_view bytes) {
  std::vector<TraceEntry> entries;
  entries.reserve(bytes.size() / kEntryBytes);
  for (; bytes.size() >= kEntryBytes; bytes.remove_prefix(kEntryBytes))
    entries.push_back(
        {big_endian(bytes.substr(0, kKeyBytes)),
         static_cast<std::uint16_t>(big_endian(bytes.substr(kKeyBytes, kEntryBytes - kKeyBytes)))});
  return entries;
}

Result<void> TraceIndexWriter::prepare(queue::Database& database) {
  return prepare_all(
      database,
      {{runs_,
        "SELECT number, level, block, length(firsts) FROM run WHERE number >= ? AND number < ?"
        " ORDER BY number"},
       {last_run_, "SELECT max(number) FROM run WHERE number >= ? AND number < ?"},
       {last_block_, "SELECT max(number) FROM block"},
       {add_run_, "INSERT INTO run(number, level, block, firsts) VALUES(?, ?, ?, ?)"},
       {add_block_, "INSERT INTO block(number, bytes) VALUES(?, ?)"},
       {blocks_, "SELECT bytes FROM block WHERE number >= ? AND number < ? ORDER BY number"},
       {first_block_,
        "SELECT number FROM block WHERE number >= ? AND number < ? ORDER BY number LIMIT 1"},
       {forget_blocks_, "DELETE FROM block WHERE number >= ? AND number < ?"},
       {forget_run_, "DELETE FROM run WHERE number = ?"}});
}

Result<std::vector<TraceIndexWriter::Run>> TraceIndexWriter::runs(std::int64_t segment) {
  Query query(runs_);
  query.bind(segment * kRuns).bind((segment + 1) * kRuns);
  return query.rows([](const Query& row) {
    return Run{row.integer(0), std::clamp<std::int64_t>(row.integer(1), 0, kMostLevel),
               std::clamp<std::int64_t>(row.integer(2), 0, kMostBlock),
               row.integer(3) / static_cast<std::int64_t>(kKeyBytes)};
  });
}

Result<void> TraceIndexWriter::write(std::int64_t segment, std::int64_t level,
                                     const std::vector<TraceEntry>& entries) {
  const auto last_block = Query(last_block_).first(0);
  Query last_run(last_run_);
  const auto has_run = last_run.bind(segment * kRuns).bind((segment + 1) * kRuns).next();
  if (!last_block || !has_run)
    return last_block ? has_run.error() : last_block.error();
  if (*last_block < 0 || *last_block >= kMostBlock)
    return damaged_file("a block has no such number");
  const auto number = last_run.is_null(0) ? segment * kRuns : last_run.integer(0) + 1;
  std::string firsts((entries.size() + kBlockEntries - 1) / kBlockEntries * kKeyBytes, '\0');
  auto* next_first = firsts.data();
  auto block = *last_block;
  for (std::size_t i = 0; i < entries.size(); i += kBlockEntries) {
    next_first = put_big_endian(entries[i].key, kKeyBytes, next_first);
    const auto bytes = encode_block(&entries[i], std::min(kBlockEntries, entries.size() - i));
    Query add(add_block_);
    if (auto done = add.bind(++block).bind_blob(bytes).run(); !done)
      return done.error();
  }
  Query add(add_run_);
  return add.bind(number).bind(level).bind(*last_block + 1).bind_blob(firsts).run();
}

Result<void> TraceIndexWriter::read(const Run& run, std::vector<TraceEntry>& entries) {
  Query query(blocks_);
  query.bind(run.block).bind(run.block + run.blocks);
  return query.for_each([&](const Query& row) {
    const auto some = decode_block(row.blob(0));
    entries.insert(entries.end(), some.begin(), some.end());
  });
}

Result<void> TraceIndexWriter::forget(const Run& run) {
  Query blocks(forget_blocks_);
  if (auto done = blocks.bind(run.block).bind(run.block + run.blocks).run(); !done)
    return done.error();
  return Query(forget_run_).bind(run.number).run();
}

Result<void> TraceIndexWriter::merge(std::int64_t segment, const std::vector<Run>& runs,
                                     std::int64_t level) {
  std::vector<TraceEntry> entries;
  for (const auto& run : runs)
    if (auto done = read(run, entries); !done)
      return done.error();
  std::sort(entries.begin(), entries.end());
  if (auto done = write(segment, level, entries); !done)
    return done.error();
  for (const auto& run : runs)
    if (auto done = forget(run); !done)
      return done.error();
  return {};
}

Result<void> TraceIndexWriter::add(std::int64_t segment, std::vector<TraceEntry> entries) {
  if (entries.empty())
    return {};
  std::sort(entries.begin(), entries.end());
  if (auto done = write(segment, 0, entries); !done)
    return done.error();
  for (std::int64_t level = 0;; ++level) {
    auto all = runs(segment);
    if (!all)
      return all.error();
    all->erase(std::remove_if(all->begin(), all->end(),
                              [&](const Run& run) { return run.level != level; }),
               all->end());
    if (all->size() < kFan)
      return {};
    if (auto done = merge(segment, *all, level + 1); !done)
      return done.error();
  }
}

Result<void> TraceIndexWriter::close(std::int64_t segment) {
  const auto all = runs(segment);
  if (!all)
    return all.error();
  if (all->size() < 2)
    return {};
  std::int64_t level = 0;
  for (const auto& run : *all)
    level = std::max(level, run.level);
  return merge(segment, *all, level + 1);
}

Result<bool> TraceIndexWriter::shrink(std::int64_t segment) {
  const auto all = runs(segment);
  if (!all)
    return all.error();
  if (all->empty())
    return false;
  const auto& run = all->front();
  const auto end = run.block + run.blocks;
  Query query(first_block_);
  const auto first = query.bind(run.block).bind(end).first(end);
  if (!first)
    return first.error();
  const auto slice = std::min(*first + kBlocksOfSlice, end);
  Query blocks(forget_blocks_);
  if (auto done = blocks.bind(*first).bind(slice).run(); !done)
    return done.error();
  if (slice == end)
    if (auto done = Query(forget_run_).bind(run.number).run(); !done)
      return done.error();
  return true;
}

Result<void> TraceIndexReader::prepare(queue::Database& database) {
  return prepare_all(database,
                     {{runs_, "SELECT block, firsts FROM run WHERE number >= ? AND number < ?"},
                      {block_, "SELECT bytes FROM block WHERE number = ?"}});
}

Result<std::vector<std::int64_t>> TraceIndexReader::places(std::int64_t segment,
                                                           TraceKeyRange range) {
  std::vector<std::int64_t> places;
  Query runs(runs_);
  runs.bind(segment * kRuns).bind((segment + 1) * kRuns);
  for (;;) {
    const auto row = runs.next();
    if (!row)
      return row.error();
    if (!*row)
      break;
    const auto block = std::clamp<std::int64_t>(runs.integer(0), 0, kMostBlock);
    const Firsts firsts(runs.blob(1));
    for (auto i = firsts.find(range.first); i < firsts.size() && firsts[i] <= range.last; ++i) {
      Query query(block_);
      const auto found = query.bind(block + static_cast<std::int64_t>(i)).next();
      if (!found)
        return found.error();
      if (!*found)
        continue;  // the segment is going
      const auto entries = decode_block(query.blob(0));
      auto entry = std::lower_bound(entries.begin(), entries.end(), TraceEntry{range.first, 0});
      for (; entry != entries.end() && entry->key <= range.last; ++entry)
        places.push_back(entry->place);
    }
  }
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  return places;
}

}  // namespace postrider::events
