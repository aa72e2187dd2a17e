// The files of the page, compiled in.
#pragma once

#include <string_view>

namespace postrider::web {

struct Asset {
  const char* path;  // "/page.js"
  const char* type;
  std::string_view bytes;
};
// Null: there is none of that path.
const Asset* find_asset(std::string_view path);

}  // namespace postrider::web
