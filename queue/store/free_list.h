// The free pages of a database in the order in which giving them back takes them. SQLite looks for
// each page that it gives back in its list of free ones from the front: in the order in which mail
// left, that is half of a long list for each.
#pragma once

#include "base/result.h"
#include "queue/store/sqlite.h"

#include <cstdint>
#include <string>

namespace postrider::queue {

// False: not now, for somebody reads the database. Nothing else may write to it meanwhile.
// Requires: no transaction of `database` is open.
//
// The new list is written into pages that are free, so a power cut finds the old list or the new
// one. `database` and others notice it by a change of the table meta.
Result<bool> sort_free_list(Database& database, const std::string& path, const char* vfs);

}  // namespace postrider::queue
