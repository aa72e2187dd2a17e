#include "delivery/site_verdicts.h"

#include "delivery/job/job_outcome.h"
#include "delivery/refusals.h"
#include "delivery/site_links.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Verdict;

namespace {

// Rather than of a sender or a mailbox.
bool is_of_site(Site& site, const WeightiestRefusal& refusal, const JobEnd& end, SteadyTime now) {
  const auto scope = weigh_evidence(site.refusals, end, now);
  const bool is_for_rate = refusal.meaning.limits_rate && refusal.meaning.suspend == Duration{0};
  return scope == Evidence::Scope::site || (scope == Evidence::Scope::more && is_for_rate);
}

}  // namespace

std::optional<SiteStop> weigh_refusal(Site& site, const JobEnd& end, SteadyTime steady,
                                      TimePoint now) {
  const auto refusal = weightiest_refusal(end);
  if (refusal.outcome == nullptr) {
    const bool is_lost = std::any_of(end.results.begin(), end.results.end(), [](const auto& one) {
      return one.outcome.verdict == Verdict::retry && one.outcome.reply.code == 0 &&
             !is_our_fault(one.outcome);
    });
    if (is_lost)
      site.pace.on_broken(now);
    return std::nullopt;
  }
  const auto& meaning = refusal.meaning;
  const auto& reply = refusal.outcome->reply;
  if (refusal.may_be_of_one() && !is_of_site(site, refusal, end, steady))
    return std::nullopt;
  const auto wait = site.pace.on_refused(meaning, reply, under_way(site), now);
  if (reply.code == 421 && meaning.klass == scheduler::ReplyClass::busy &&
      !meaning.limits_connections)
    site.pace.on_broken(now);
  return wait > Duration{0} ? std::optional<SiteStop>({wait, *refusal.outcome}) : std::nullopt;
}

void note_success(Site& site, const CourierEvent& event, SteadyTime steady, TimePoint now) {
  site.health.on_success();
  note_taken(site.refusals, event.end, steady);
  note_taken(site.breaks, event.end, steady);
  if (event.partial)
    return;
  const auto latency = std::chrono::duration_cast<Duration>(steady - event.end.job.handed_over);
  site.pace.on_taken(latency, under_way(site), !site.ready.empty(), now);
}

}  // namespace postrider::delivery
