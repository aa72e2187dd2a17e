// What the connections of a site are doing.
#pragma once

#include "delivery/site.h"

namespace postrider::delivery {

// Connections with a job that wait for no reply aside.
unsigned under_way(const Site& site);
// Connections that the site has greeted.
unsigned working(const Site& site);
// An idle one; or, when no more than `most` may be counted, one with room behind its job. nullptr: a
// further connection is to be made, or none can take the job.
SiteConnection* free_link(Site& site, unsigned most);

}  // namespace postrider::delivery
