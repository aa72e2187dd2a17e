#include "delivery/site_links.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

// A small message; a large one may take more.
constexpr Duration kSlow = std::chrono::seconds(1);
constexpr std::uint64_t kSlowRate = 1000;  // octets a millisecond

}  // namespace

unsigned under_way(const Site& site) {
  return static_cast<unsigned>(
      std::count_if(site.links.begin(), site.links.end(),
                    [](const auto& link) { return link->in_hand > 0 && !link->is_aside; }));
}

unsigned working(const Site& site) {
  return static_cast<unsigned>(std::count_if(site.links.begin(), site.links.end(),
                                             [](const auto& link) { return link->was_ready; }));
}

std::size_t aside(const Site& site) {
  return static_cast<std::size_t>(std::count_if(site.links.begin(), site.links.end(),
                                                [](const auto& link) { return link->is_aside; }));
}

std::size_t counted(const Site& site) {
  return site.links.size() - std::min(aside(site), kMostHanging);
}

Duration usual_time(const mail::Message& message) {
  return kSlow + Duration(static_cast<Duration::rep>(message.content.size / kSlowRate));
}

unsigned most_connections(const Site& site, TimePoint now) {
  return site.health.limit(now, site.pace.limit());
}

SiteConnection* free_link(Site& site, unsigned most) {
  if (!site.idle.empty())
    return site.idle.back();
  if (counted(site) < most)
    return nullptr;
  for (const auto& link : site.links)
    if (link->room > link->in_hand && !(site.is_one_by_one && link->in_hand > 0))
      return link.get();
  return nullptr;
}

}  // namespace postrider::delivery
