// What the connections of a site are doing.
#pragma once

#include "delivery/site.h"

namespace postrider::delivery {

// Connections with a job that wait for no reply aside.
unsigned under_way(const Site& site);
// Connections that the site has greeted.
unsigned working(const Site& site);
// That wait for the reply to the final dot for long.
std::size_t aside(const Site& site);
// So many of those do not count.
constexpr std::size_t kMostHanging = 10;
std::size_t counted(const Site& site);
// What takes longer, to connect or to carry the message, is slow.
Duration usual_time(const mail::Message& message);
// That it may have now, by its health and its pace.
unsigned most_connections(const Site& site, TimePoint now);
// An idle one; or, when no more than `most` may be counted, one with room behind its job. nullptr: a
// further connection is to be made, or none can take the job.
SiteConnection* free_link(Site& site, unsigned most);

}  // namespace postrider::delivery
