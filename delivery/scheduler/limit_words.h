// Which limit of a site holds, and which observation set it: in words, for people. Pure.
#pragma once

#include "base/time.h"
#include "delivery/scheduler/limit_finder.h"
#include "delivery/scheduler/rate_finder.h"

#include <string>

namespace postrider::scheduler {

std::string time_ago(TimePoint time, TimePoint now);  // "90 s ago"
// "5 connections at one time: one more was refused 3 min ago"
std::string explain_limit(const LimitFinder& limit, TimePoint now);
// "1.5/s: it refused for the rate 3 min ago"
std::string explain_rate(const RateFinder& rate, TimePoint now);

}  // namespace postrider::scheduler
