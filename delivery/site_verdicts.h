// What the end of a job says of its site: to its health, its pace, and whether it wants mail at all.
#pragma once

#include "delivery/site.h"

#include <optional>

namespace postrider::delivery {

struct SiteStop {  // the site wants no mail for a while
  Duration wait{0};
  mail::Outcome why;
};

// now: of the pace. The site took mail.
void note_success(Site& site, const CourierEvent& event, SteadyTime steady, TimePoint now);
// What the site said of this job may be about itself, or about us.
std::optional<SiteStop> weigh_refusal(Site& site, const JobEnd& end, SteadyTime steady,
                                      TimePoint now);

}  // namespace postrider::delivery
