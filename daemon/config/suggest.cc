#include "daemon/config/suggest.h"

#include "base/expected.h"
#include "base/nearest.h"
#include "base/text.h"

#include <vector>

namespace postrider::daemon {

namespace {

std::vector<std::string> names_in(const Section* section) {
  std::vector<std::string> names;
  const std::string_view wanted = section == nullptr ? "" : section->name;
  for (const auto& option : options())
    if (section_of(option) == wanted)
      names.emplace_back(name_in_section(option));
  if (section == nullptr)
    for (const auto& other : sections())
      if (*other.name != '\0')
        names.emplace_back(other.name);
  return names;
}

// The key by that name in another section: message_size above [accept].
std::string elsewhere(std::string_view name) {
  for (const auto& option : options())
    if (name_in_section(option) == name)
      return option.key;
  return {};
}

}  // namespace

std::string unknown_key(std::string_view name, const Section* section) {
  const auto names = names_in(section);
  if (const auto known = nearest(name, names); !known.empty())
    return "unknown key; did you mean " + known + "?";
  if (const auto key = elsewhere(ascii_lower(name)); !key.empty())
    return "unknown key; did you mean " + key + "?";
  std::string all;
  for (const auto& known : names)
    all.append(all.empty() ? "" : &known == &names.back() ? " or " : ", ").append(known);
  return but_expected("unknown key", all);
}

}  // namespace postrider::daemon
