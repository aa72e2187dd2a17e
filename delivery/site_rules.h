// What an operator knows better of sites than can be found by trying. Pure.
#pragma once

#include "delivery/routing/hosts.h"
#include "delivery/scheduler/site_pace.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct SiteRule {
  // "example.org", ".example.org": the domain of mail; "mx:.example.net": of every mail host.
  std::vector<std::string> match;
  scheduler::SiteBounds bounds{.connections = 0};  // 0: as elsewhere
  Families families = Families::both;
};

// The first rule for a site with these hosts that serves `domain`; nullptr: none.
const SiteRule* find_site_rule(const std::vector<SiteRule>& rules, std::string_view domain,
                               const std::vector<Host>& hosts);

}  // namespace postrider::delivery
