// `postrider queue summary`, `pause` and `resume` as people read them. Pure; each takes the objects
// of the daemon's answer.
#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace postrider::cli {

// The groups in a table, the largest first, behind the sum of all; by age, one column for each age.
// summary: the last object of the answer. At most 80 columns, but for a long key.
std::string summary_view(const std::vector<boost::json::object>& groups,
                         const boost::json::object& summary, std::int64_t now);

std::string paused_view(const boost::json::object& paused);
std::string resumed_view(const boost::json::object& resumed);

}  // namespace postrider::cli
