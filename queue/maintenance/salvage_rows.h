// What can be read of a damaged database, page by page, written into another one.
#pragma once

#include "queue/maintenance/salvage.h"
#include "queue/store/page_file.h"
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

enum class Bodies : std::uint8_t { are_swept, stay };

// done: what is saved, and what is lost. Content whose message is lost goes to lost/.
Result<void> save_rows(const Spool& spool, PageFile& pages, SqliteStore& store, TimePoint now,
                       Bodies bodies, Salvaged& done);

}  // namespace postrider::queue
