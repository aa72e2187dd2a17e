// A word of a command line, as a shell takes it: for orders that people copy.
#pragma once

#include <string>
#include <string_view>

namespace postrider {

// As it is if no shell reads anything else in it, otherwise in quotes: <> becomes '<>'.
std::string shell_word(std::string_view word);

}  // namespace postrider
