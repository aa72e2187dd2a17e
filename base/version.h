// The version of this tree, which project(VERSION) in CMakeLists.txt alone says.
#pragma once

#include <string_view>

namespace postrider {

// "0.2.0".
std::string_view version();

}  // namespace postrider
