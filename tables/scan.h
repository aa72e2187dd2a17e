// Tables for a process that asks about one address and ends: each question reads the file as it is
// now, in blocks, and keeps nothing. What a lookup finds is what open_table() would have found.
#pragma once

#include "tables/table.h"

#include <memory>

namespace postrider::tables {

// Lookups fail for now where the file cannot be read. Patterns, statements and inline entries are
// opened once, at the first question.
std::shared_ptr<const Table> scan_table(Spec spec, Options options);

// Whether somebody else than root and this process's user owns the file, its folder, or what a link
// there leads to: then a fault of the table is that user's doing.
bool is_of_others(const Spec& spec);

}  // namespace postrider::tables
