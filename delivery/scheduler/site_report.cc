// What a site's scheduler says of itself: for people, and for the next start.
#include "delivery/scheduler/limit_words.h"
#include "delivery/scheduler/site_scheduler.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;

}  // namespace

std::string SiteScheduler::explain_source(const Source& source, TimePoint now) const {
  std::string text = source.address.empty() ? "" : "from " + source.address + ": ";
  if (source.is_blocked)
    return text + "nothing is sent since " + time_ago(source.blocked_since, now) + " (" +
           name(source.blocked_for) + "); next try in " +
           std::to_string(std::max<std::int64_t>(0, (source.blocked_until - now).count() / 1000)) +
           " s";
  text += explain_limit(source.limit, now) + "; " + explain_rate(source.rate, now);
  if (!source.hosts.may_use_ipv6(now))
    text += "; IPv6 is not used: a message was refused over it";
  return text;
}

std::string SiteScheduler::explain(TimePoint now) const {
  std::string text;
  for (const Source& source : sources_)
    text += explain_source(source, now) + "\n";
  if (per_connection_)
    text += std::to_string(per_connection_) + " messages a connection: so many were taken, twice\n";
  return text;
}

// "1 20 305000; 5 1 30 1.5 1.4 120;": version, messages a connection, greylisting delay, then each
// source.
std::string SiteScheduler::store() const {
  char text[160];
  std::snprintf(text, sizeof text, "1 %u %" PRId64 ";", per_connection_,
                static_cast<std::int64_t>(grey_delay_.count()));
  std::string all = text;
  for (const Source& source : sources_) {
    const auto limit = source.limit.stored();
    const auto rate = source.rate.stored();
    std::snprintf(text, sizeof text, " %u %d %u %.6g %.6g %u;", static_cast<unsigned>(limit.low),
                  limit.is_refused ? 1 : 0, static_cast<unsigned>(limit.backoff),
                  static_cast<double>(rate.rate), static_cast<double>(rate.low),
                  static_cast<unsigned>(rate.backoff));
    all += text;
  }
  return all;
}

bool SiteScheduler::restore(std::string_view stored, Duration idle) {
  std::string text(stored.substr(0, 4096));
  unsigned per_connection = 0;
  std::int64_t grey = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "1 %9u %12" SCNd64 ";%n", &per_connection, &grey, &used) != 2 ||
      used == 0)
    return false;
  const char* at = text.c_str() + used;
  for (Source& source : sources_) {
    unsigned low = 0, limit_backoff = 0, rate_backoff = 0;
    int refused = 0;
    LimitFinder::Stored limit;
    RateFinder::Stored rate;
    used = 0;
    if (std::sscanf(at, " %5u %1d %5u %20f %20f %5u;%n", &low, &refused, &limit_backoff, &rate.rate,
                    &rate.low, &rate_backoff, &used) != 6 ||
        used == 0)
      break;  // fewer sources than now: those begin from nothing
    if (!std::isfinite(rate.rate) || !std::isfinite(rate.low))
      return false;
    at += used;
    limit.low = static_cast<std::uint16_t>(std::min(low, 65535U));
    limit.is_refused = refused != 0;
    limit.backoff = static_cast<std::uint16_t>(std::min(limit_backoff, 65535U));
    rate.backoff = static_cast<std::uint16_t>(std::min(rate_backoff, 65535U));
    source.limit.restore(limit, idle);
    source.rate.restore(rate, idle);
  }
  if (idle < hours(24)) {
    per_connection_ = per_connection;
  }
  if (idle < hours(24 * 7) && grey >= 0 && grey <= Duration(hours(24)).count())
    grey_delay_ = Duration(grey);
  return true;
}

}  // namespace postrider::scheduler
