// How many of what others say, the DNS first of all, stand in a sentence: the first few, and the number of the rest.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace postrider::daemon {

inline std::string named_few(const std::vector<std::string>& items, std::size_t most = 4) {
  std::string out;
  const auto named = std::min(items.size(), most);
  for (std::size_t i = 0; i < named; ++i)
    out.append(out.empty() ? "" : ", ").append(items[i]);
  if (named < items.size())
    out.append(" and ").append(std::to_string(items.size() - named)).append(" more");
  return out;
}

}  // namespace postrider::daemon
