#include "base/list_keys.h"

#include "base/text.h"
#include "base/url.h"

namespace postrider {

namespace {

bool is_of_label(char c) {
  const char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9');
}

}  // namespace

std::string without_list_keys(std::string_view text) {
  constexpr std::string_view kKeyed = ".dq.spamhaus.net";
  std::string shown;
  for (auto at = text.find(kKeyed); at != text.npos; at = text.find(kKeyed)) {
    auto list = at;  // the label before it, and the key before that
    while (list > 0 && is_of_label(text[list - 1]))
      --list;
    auto key = list > 0 && text[list - 1] == '.' ? list - 1 : list;
    const auto key_end = key;
    while (key > 0 && is_of_label(text[key - 1]))
      --key;
    shown.append(text.substr(0, key));
    if (key < key_end)
      shown.append(kHiddenPassword);
    shown.append(text.substr(key_end, at + kKeyed.size() - key_end));
    text.remove_prefix(at + kKeyed.size());
  }
  return shown.append(text);
}

}  // namespace postrider
