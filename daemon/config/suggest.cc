#include "daemon/config/suggest.h"

#include "base/text.h"

#include <algorithm>
#include <vector>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostCompared = 64;

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

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i)
    cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j)
    cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  return cost[a.size()][b.size()];
}

std::string suggest_key(std::string_view name, const Section* section) {
  const auto names = names_in(section);
  if (name.size() <= kMostCompared) {
    const auto lower = ascii_lower(name);
    const auto distance = [&](const std::string& known) { return edit_distance(lower, known); };
    const auto nearest =
        std::min_element(names.begin(), names.end(),
                         [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
    if (nearest != names.end() && distance(*nearest) <= 1 + nearest->size() / 4)
      return "did you mean " + *nearest + "?";
    if (const auto key = elsewhere(lower); !key.empty())
      return "did you mean " + key + "?";
  }
  std::string out;
  for (const auto& known : names)
    out.append(out.empty() ? "" : ", ").append(known);
  return out + " are allowed";
}

}  // namespace postrider::daemon
