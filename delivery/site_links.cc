#include "delivery/site_links.h"

#include "delivery/connection_line.h"

#include <algorithm>

namespace postrider::delivery {

unsigned under_way(const Site& site) {
  return static_cast<unsigned>(
      std::count_if(site.links.begin(), site.links.end(),
                    [](const auto& link) { return link->in_hand > 0 && !link->is_aside; }));
}

unsigned working(const Site& site) {
  return static_cast<unsigned>(std::count_if(site.links.begin(), site.links.end(),
                                             [](const auto& link) { return link->was_ready; }));
}

SiteConnection* free_link(Site& site, unsigned most) {
  if (!site.idle.empty())
    return site.idle.back();
  if (ConnectionLine::counted(site) < most)
    return nullptr;
  for (const auto& link : site.links)
    if (link->room > link->in_hand && !(site.is_one_by_one && link->in_hand > 0))
      return link.get();
  return nullptr;
}

}  // namespace postrider::delivery
