// What operators write about schedules and rates. Pure.
#pragma once

#include "base/network.h"
#include "base/time.h"
#include "delivery/scheduler/reply_class.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::scheduler {

// "mailbox-full 1h 4h 12h"
struct RetryRule {
  ReplyClass klass = ReplyClass::busy;
  std::vector<Duration> steps;  // at least one, at most 20, each from 100 ms to 7 days
};
std::optional<RetryRule> parse_retry_rule(std::string_view text);

// "100/m": messages a second; from 1 to 1,000,000 by s, m, h or d.
std::optional<double> parse_rate(std::string_view text);

// An address of this machine that connections come from; of several of a family each has the share
// that its weight says.
struct SiteSource {
  IpAddress address;
  unsigned weight = 1;
};
// "192.0.2.1", or "192.0.2.1*3": the weight is from 1 to 1000. nullopt: neither.
std::optional<SiteSource> parse_site_source(std::string_view text);

// "google": patterns (".google.com") of the mail hosts of a provider; empty: it is not known.
std::vector<std::string_view> hosts_of_provider(std::string_view name);
std::string provider_names();  // "apple, comcast, ..."

}  // namespace postrider::scheduler
