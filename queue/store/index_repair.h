// Damaged indexes, rebuilt from their tables. SQLite cannot do it alone: REINDEX, DROP INDEX and
// VACUUM all read the old index first, and stop at a page that is none any more.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>

namespace postrider::queue {

// Under `reindex` in the table meta while an index may be empty that must not be.
inline constexpr const char* kReindexMark = "reindex";

// if_unreadable: each is read first, which costs less than building all of them.
enum class Repair : std::uint8_t { if_unreadable, always };

// False: they can be read, so nothing was done. Requires: no connection to the database is open.
// Changes nothing if a table cannot be read in full, for then its index would be less than it was.
// After a kill it is to be called again, with `always`, where the mark is set.
Result<bool> rebuild_indexes(const std::string& path, const char* vfs, Repair when);

}  // namespace postrider::queue
