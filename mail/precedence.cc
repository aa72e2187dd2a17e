#include "mail/precedence.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::mail {

Precedence parse_precedence(std::string_view value) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = std::min(value.find_first_not_of(kSpace), value.size());
  const auto word = value.substr(begin, value.find_last_not_of(kSpace) + 1 - begin);
  if (equals_ignoring_case(word, "bulk") || equals_ignoring_case(word, "list"))
    return Precedence::bulk;
  return equals_ignoring_case(word, "junk") ? Precedence::junk : Precedence::none;
}

}  // namespace postrider::mail
