// escaped() of base/text.h for other forms than a piece of a sentence.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider {

// For a whole text on a terminal: line ends and tabs stay too.
std::string escaped_text(std::string_view text);
// For JSON, where \uNNNN stands for what would be escaped; invalid bytes become U+FFFD.
std::string escaped_json(std::string_view json);
// For a value between quotes, as the log writes it: quotes and backslashes become \xNN too.
void append_escaped_value(std::string_view outside, std::string& out, std::size_t most = 512);

}  // namespace postrider
