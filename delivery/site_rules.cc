#include "delivery/site_rules.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

bool names(std::string_view pattern, std::string_view name) {
  if (name.ends_with('.'))
    name.remove_suffix(1);
  if (!pattern.starts_with('.'))
    return equals_ignoring_case(pattern, name);
  return name.size() > pattern.size() &&
         equals_ignoring_case(pattern, name.substr(name.size() - pattern.size()));
}

// A domain that mixes providers is not a site of either.
bool matches(std::string_view pattern, std::string_view domain, const std::vector<Host>& hosts) {
  constexpr std::string_view kHosts = "mx:";
  const auto provider = scheduler::hosts_of_provider(pattern);
  if (provider.empty() && !pattern.starts_with(kHosts))
    return names(pattern, domain);
  const auto is_meant = [&](const Host& host) {
    return provider.empty() ? names(pattern.substr(kHosts.size()), host.name)
                            : std::any_of(provider.begin(), provider.end(),
                                          [&](auto one) { return names(one, host.name); });
  };
  return !hosts.empty() && std::all_of(hosts.begin(), hosts.end(), is_meant);
}

}  // namespace

std::vector<IpAddress> choose_sources(const std::vector<scheduler::SiteSource>& all,
                                      std::uint64_t turn) {
  std::vector<IpAddress> chosen;
  for (const bool v4 : {false, true}) {
    std::uint64_t total = 0;
    for (const auto& source : all)
      total += source.address.is_v4() == v4 ? source.weight : 0;
    if (total == 0)
      continue;
    auto at = turn % total;
    for (const auto& source : all) {
      if (source.address.is_v4() != v4)
        continue;
      if (at < source.weight) {
        chosen.push_back(source.address);
        break;
      }
      at -= source.weight;
    }
  }
  return chosen;
}

const SiteRule* find_site_rule(const std::vector<SiteRule>& rules, std::string_view domain,
                               const std::vector<Host>& hosts) {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const SiteRule& rule) {
    return std::any_of(rule.match.begin(), rule.match.end(),
                       [&](const std::string& pattern) { return matches(pattern, domain, hosts); });
  });
  return found == rules.end() ? nullptr : &*found;
}

}  // namespace postrider::delivery
