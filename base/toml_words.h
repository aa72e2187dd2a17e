// What is wrong with a text that is not TOML, for who wrote it.
#pragma once

#include <string>
#include <string_view>

namespace postrider {

// From what the TOML library said: "is not TOML (key-value pair: expected '=', saw 'b'); expected
// key = value". Unknown words of another version of the library get a general remedy.
std::string toml_problem(std::string_view description);

}  // namespace postrider
