// Constant databases (cdb(5)): how they are made from files of lines.
#pragma once

#include "tables/table.h"

#include <string>
#include <utility>
#include <vector>

namespace postrider::tables {

using Entries = std::vector<std::pair<std::string, std::string>>;

// What a file of the kinds aliases and text holds, keys in lower case; every line is checked.
// Values that are wrong are told in `problems` and stay: lookups shall fail for now rather than
// find nothing.
Result<Entries> read_entries(const Spec& spec, const Options& options,
                             std::vector<std::string>& problems);

// The old or the new database, never half of one: written beside it, synced, renamed.
Result<void> build_cdb(const std::string& path, const Entries& entries);

}  // namespace postrider::tables
