#include "delivery/scheduler/limit_words.h"

#include <cstdio>

namespace postrider::scheduler {

namespace {

using std::chrono::seconds;

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

}  // namespace

std::string time_ago(TimePoint time, TimePoint now) {
  const auto past = std::chrono::duration_cast<seconds>(now - time).count();
  if (past < 120)
    return std::to_string(past) + " s ago";
  if (past < 7200)
    return std::to_string(past / 60) + " min ago";
  return std::to_string(past / 3600) + " h ago";
}

std::string explain_limit(const LimitFinder& limit, TimePoint now) {
  const auto count = std::to_string(limit.limit()) +
                     (limit.limit() == 1 ? " connection" : " connections") + " at one time: ";
  switch (limit.cause()) {
    case LimitFinder::Cause::beginning:
      return count + "still finding out";
    case LimitFinder::Cause::most:
      return count + "no more are allowed here";
    case LimitFinder::Cause::refusal:
      return count + "one more was refused" +
             (limit.cause_time() == TimePoint{} ? "" : " " + time_ago(limit.cause_time(), now));
    case LimitFinder::Cause::latency:
      return count + "more brought no more replies" +
             (limit.cause_time() == TimePoint{} ? "" : " " + time_ago(limit.cause_time(), now));
    case LimitFinder::Cause::silence:
      return count + "one more was silent while others waited " + time_ago(limit.cause_time(), now);
    case LimitFinder::Cause::breaks:
      return count + "too many conversations broke " + time_ago(limit.cause_time(), now);
  }
  return count;
}

std::string explain_rate(const RateFinder& rate, TimePoint now) {
  if (rate.is_searching())
    return "it refused for the rate " + time_ago(rate.cause_time(), now) +
           ", one message at a time finds it";
  if (rate.rate() == 0)
    return "no limit of the rate is known";
  return per_time(rate.rate()) +
         (rate.cause_time() == TimePoint{}
              ? ""
              : ": it refused for the rate " + time_ago(rate.cause_time(), now));
}

}  // namespace postrider::scheduler
