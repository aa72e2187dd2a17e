// The one form of what is wrong with something that an administrator wrote, behind the place and the
// key: "<what is wrong>; expected <what may stand there>".
#pragma once

#include <string>
#include <string_view>

namespace postrider {

inline std::string but_expected(std::string problem, std::string_view what) {
  return problem.append("; expected ").append(what);
}

}  // namespace postrider
