// Constant databases (cdb(5)): how they are made.
#pragma once

#include "base/result.h"

#include <string>
#include <utility>
#include <vector>

namespace postrider::tables {

// The old or the new database, never half of one: written beside it, synced, renamed.
Result<void> build_cdb(const std::string& path,
                       const std::vector<std::pair<std::string, std::string>>& entries);

}  // namespace postrider::tables
