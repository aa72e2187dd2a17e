// What a site's scheduler says of itself: for people, and for the next start.
#include "delivery/scheduler/site_scheduler.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;
using std::chrono::seconds;

std::string ago(TimePoint time, TimePoint now) {
  const auto past = std::chrono::duration_cast<seconds>(now - time).count();
  if (past < 120)
    return std::to_string(past) + " s ago";
  if (past < 7200)
    return std::to_string(past / 60) + " min ago";
  return std::to_string(past / 3600) + " h ago";
}

std::string per_time(double rate) {
  char text[48];
  if (rate >= 1)
    std::snprintf(text, sizeof text, "%.1f/s", rate);
  else if (rate * 60 >= 1)
    std::snprintf(text, sizeof text, "%.1f/min", rate * 60);
  else
    std::snprintf(text, sizeof text, "%.1f/h", rate * 3600);
  return text;
}

std::string explain_limit(const LimitFinder& limit, TimePoint now) {
  const auto count = std::to_string(limit.limit()) + " connections at one time: ";
  switch (limit.cause()) {
    case LimitFinder::Cause::beginning:
      return count + "still finding out";
    case LimitFinder::Cause::most:
      return count + "no more are allowed here";
    case LimitFinder::Cause::refusal:
      return count + "one more was refused" +
             (limit.cause_time() == TimePoint{} ? "" : " " + ago(limit.cause_time(), now));
    case LimitFinder::Cause::latency:
      return count + "more brought no more replies" +
             (limit.cause_time() == TimePoint{} ? "" : " " + ago(limit.cause_time(), now));
    case LimitFinder::Cause::breaks:
      return count + "too many conversations broke " + ago(limit.cause_time(), now);
  }
  return count;
}

std::string explain_rate(const RateFinder& rate, TimePoint now) {
  if (rate.is_searching())
    return "; it refused for the rate " + ago(rate.cause_time(), now) +
           ", one message at a time finds it";
  if (rate.rate() == 0)
    return "; no limit of the rate is known";
  return "; " + per_time(rate.rate()) +
         (rate.cause_time() == TimePoint{}
              ? ""
              : ": it refused for the rate " + ago(rate.cause_time(), now));
}

}  // namespace

std::string SiteScheduler::explain_source(const Source& source, TimePoint now) const {
  std::string text = source.address.empty() ? "" : "from " + source.address + ": ";
  if (source.is_blocked)
    return text + "nothing is sent since " + ago(source.blocked_since, now) + " (" +
           name(source.blocked_for) + "); next try in " +
           std::to_string(std::max<std::int64_t>(0, (source.blocked_until - now).count() / 1000)) +
           " s";
  text += explain_limit(source.limit, now) + explain_rate(source.rate, now);
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
