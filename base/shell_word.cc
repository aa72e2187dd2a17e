#include "base/shell_word.h"

#include <algorithm>

namespace postrider {

namespace {

bool is_plain_for_shells(char c) {
  constexpr std::string_view kOthers = "@%+=:,./_-";
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<unsigned char>(c) >= 0x80 || kOthers.find(c) != std::string_view::npos;
}

}  // namespace

std::string shell_word(std::string_view word) {
  // An assignment before a command is none behind it.
  if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain_for_shells))
    return std::string(word);
  std::string quoted = "'";
  for (const char c : word)
    if (c == '\'')
      quoted += "'\\''";
    else
      quoted += c;
  return quoted += "'";
}

}  // namespace postrider
