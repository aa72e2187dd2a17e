// The files that a table needs besides the one that its specification names.
#pragma once

#include "tables/table.h"

#include <string>
#include <vector>

namespace postrider::tables {

// Of its password and of the authorities that it believes, as its file says now; none, where that
// cannot be read.
std::vector<std::string> further_files(const Spec& spec);

}  // namespace postrider::tables
