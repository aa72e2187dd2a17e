// Of a table that a Watcher follows: whether what it would say is passed over now, as if it said
// nothing, for its file has been bad from the start (tables/watcher.h). That a key is in no table
// is not known then.
#pragma once

#include "tables/table.h"

namespace postrider::tables {

bool is_left_out(const Table& table);  // any thread

}  // namespace postrider::tables
