// What an operator knows better of sites than can be found by trying. Pure.
#pragma once

#include "base/network.h"
#include "delivery/routing/hosts.h"
#include "delivery/scheduler/site_pace.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// An address of this machine that connections come from; of several of a family each has the share
// that its weight says.
struct SiteSource {
  IpAddress address;
  unsigned weight = 1;
};
// "192.0.2.1", or "192.0.2.1*3": the weight is from 1 to 1000. nullopt: neither.
std::optional<SiteSource> parse_site_source(std::string_view text);
// One of each family; turn: how many choices were made before.
std::vector<IpAddress> choose_sources(const std::vector<SiteSource>& all, std::uint64_t turn);

bool is_provider(std::string_view name);
std::string provider_names();  // "apple, comcast, ..."

struct SiteRule {
  // "example.org", ".example.org": the domain of mail; "mx:.example.net": of every mail host;
  // "google": a provider, by the names of its mail hosts.
  std::vector<std::string> match;
  scheduler::SiteBounds bounds{.connections = 0};  // 0: as elsewhere
  Families families = Families::both;
  std::vector<SiteSource> sources;  // empty: any
  std::string helo;                 // empty: the host name
};

// The first rule for a site with these hosts that serves `domain`; nullptr: none.
const SiteRule* find_site_rule(const std::vector<SiteRule>& rules, std::string_view domain,
                               const std::vector<Host>& hosts);

}  // namespace postrider::delivery
