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
  if (!pattern.starts_with(kHosts))
    return names(pattern, domain);
  pattern.remove_prefix(kHosts.size());
  return !hosts.empty() && std::all_of(hosts.begin(), hosts.end(),
                                       [&](const Host& host) { return names(pattern, host.name); });
}

}  // namespace

const SiteRule* find_site_rule(const std::vector<SiteRule>& rules, std::string_view domain,
                               const std::vector<Host>& hosts) {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const SiteRule& rule) {
    return std::any_of(rule.match.begin(), rule.match.end(),
                       [&](const std::string& pattern) { return matches(pattern, domain, hosts); });
  });
  return found == rules.end() ? nullptr : &*found;
}

}  // namespace postrider::delivery
