// What an operator knows better of sites than can be found by trying. Pure.
#pragma once

#include "base/network.h"
#include "delivery/routing/hosts.h"
#include "delivery/scheduler/operator_words.h"
#include "delivery/scheduler/site_pace.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// One of each family; turn: how many choices were made before.
std::vector<IpAddress> choose_sources(const std::vector<scheduler::SiteSource>& all,
                                      std::uint64_t turn);

struct SiteRule {
  // "example.org", ".example.org": the domain of mail; "mx:.example.net": of every mail host;
  // "google": a provider, by the names of its mail hosts.
  std::vector<std::string> match;
  scheduler::SiteBounds bounds{.connections = 0};  // 0: as elsewhere
  Families families = Families::both;
  std::vector<scheduler::SiteSource> sources;  // empty: any
  std::string helo;                            // empty: the host name
};

// The first rule for a site with these hosts that serves `domain`; nullptr: none.
const SiteRule* find_site_rule(const std::vector<SiteRule>& rules, std::string_view domain,
                               const std::vector<Host>& hosts);

}  // namespace postrider::delivery
