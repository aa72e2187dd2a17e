// escaped() of base/text.h for whole texts, for tools that show what has been outside.
#pragma once

#include <string>
#include <string_view>

namespace postrider {

// For a terminal: line ends, tabs, quotes and backslashes stay.
std::string escaped_text(std::string_view text);
// For JSON, where \uNNNN stands for what would be escaped; invalid bytes become U+FFFD.
std::string escaped_json(std::string_view json);

}  // namespace postrider
