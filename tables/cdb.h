// Constant databases (cdb(5)): how they are made from files of lines.
#pragma once

#include "base/file.h"
#include "tables/table.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace postrider::tables {

using Entries = std::vector<std::pair<std::string, std::string>>;

// What a file of the kinds aliases and text holds, keys in lower case; every line is checked.
// Values that are wrong are reported in `problems` and stay: lookups shall fail for now rather than
// find nothing. owner: of the file.
Result<Entries> read_entries(const Spec& spec, const Options& options,
                             std::vector<std::string>& problems, uid_t* owner = nullptr);

inline constexpr std::size_t kCdbHeader = 2048;  // octets: where its 256 hash tables lie

// Whether the hash tables that the header names lie within a file of that size. They come last, and
// the header is written behind them: a database that is being made in place, or copied, has none of
// them, or not all, and would say of every key that it is not there.
bool is_whole_cdb(std::string_view header, std::uint64_t size);

// The old or the new database, never half of one: written beside it, synced, renamed. The path is
// for errors.
struct CdbPlace {
  const FileDescriptor& folder;
  std::string path;
  // Whose it will be, if root makes it. What a table may name, and as whom it is done, goes by its
  // owner: a database has the rights of those who wrote its entries, not of who compiled them.
  uid_t owner = 0;
};
Result<void> build_cdb(const CdbPlace& place, const Entries& entries);
Result<void> build_cdb(const std::string& path, const Entries& entries);  // our own

}  // namespace postrider::tables
