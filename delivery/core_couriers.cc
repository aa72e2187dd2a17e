// Couriers: how they are sent out, and what their news does.
#include "base/assert.h"
#include "delivery/core.h"
#include "delivery/job/job_outcome.h"

#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;
using Core = Dispatcher::Core;

namespace {

constexpr auto kBadAddress = std::chrono::minutes(1);
constexpr std::size_t kMostBadAddresses = 1000;
constexpr std::uint32_t kMostReturns = 3;
constexpr std::size_t kMostInDoubt = 10000;

std::vector<HostAddress> socket_candidate(const std::string& path) {
  HostAddress candidate;
  candidate.endpoint = asio::local::stream_protocol::endpoint(path);
  candidate.address = candidate.remote = path;
  return {std::move(candidate)};
}

// How often the job came back untried while its site took nothing else either: one that takes other
// messages meanwhile, and closes behind each, is well, and the job has had bad luck.
std::uint32_t count_return(const Site& site, Job& job) {
  if (site.progress != job.progress)
    job.returns = 0;
  job.progress = site.progress;
  return ++job.returns;
}

// A failure that says more about the site than about the message.
bool is_about_site(const Outcome& outcome) {
  return outcome.verdict == Verdict::retry &&
         (outcome.stage < Stage::mail || outcome.reply.code == 421 || outcome.reply.code == 0);
}

}  // namespace

void Core::start_courier(Site& site) {
  CourierOrder order;
  order.candidates =
      site.kind == Site::Kind::socket
          ? socket_candidate(site.hosts.front().name)
          : candidates_of(site.found, site.port, settings_->families, site.bad, steady(), random_);
  if (site.kind == Site::Kind::mx && !reserve_address(order)) {
    site.is_crowded = true;
    starve(site);
    return;
  }
  if (order.candidates.empty()) {
    on_failure(site, decide(Verdict::retry, Stage::route, {4, 4, 4},
                            "no host of " + site.name + " has an address of a family in use"));
    return;
  }
  const auto loop = next_loop_++ % loops_.size();
  order.site = site.handle;
  order.dialect = site.dialect;
  order.hostname = settings_->own.hostname;
  order.settings = std::shared_ptr<const SmtpSettings>(settings_, &settings_->smtp);
  order.log = &log_;
  order.open_body = [custody = custody_.get()](const mail::Message& message) {
    return custody->open_body(message);
  };
  order.secrets = site.secrets;
  order.sessions = sessions_[loop];
  order.observer = hooks_.observer;
  order.domain = domain_of_front(site);
  order.sts = site.tls.sts;
  order.pool = pool_.get();
  order.conversions = conversions_;
  order.clock = &clock_;
  order.tell = [bag = from_loops_[loop]](CourierEvent event) { bag->put(std::move(event)); };
  auto link = std::make_unique<SiteConnection>();
  link->courier = std::make_shared<Courier>(*loops_[loop], std::move(order));
  link->site = &site;
  link->loop = loop;
  link->since = steady();
  const auto standing = standing_of(site);
  link->is_stranger = standing == Standing::stranger;
  link->is_patient = link->is_stranger && site.is_patient;
  if (site.links.empty() && !link->is_patient)
    (standing == Standing::prompt ? prompt_turn_ : newcomer_turn_) = steady();
  strangers_ += link->is_stranger ? 1 : 0;
  patient_ += link->is_patient ? 1 : 0;
  link->unproven = unproven_.insert(unproven_.end(), link.get());
  loops_[loop]->post([courier = link->courier] { courier->start(); });
  site.links.push_back(std::move(link));
  ++site.connecting;
  ++links_;
  ++counters_.connections_opened;
}

void Core::on_event(CourierEvent event) {
  const auto found_site = site_of_handle_.find(event.courier->site());
  POSTRIDER_ASSERT(found_site != site_of_handle_.end());
  auto& site = *found_site->second;
  const auto found = std::find_if(site.links.begin(), site.links.end(),
                                  [&](const auto& link) { return link->courier == event.courier; });
  if (found == site.links.end()) {
    // A job that crossed the courier's end on its way.
    POSTRIDER_ASSERT(event.kind == CourierEvent::Kind::gone);
    event.was_ready = true;
    take_returned(site, event);
    schedule(site);
    return;
  }
  switch (event.kind) {
    case CourierEvent::Kind::ready:
      on_ready(site, **found, event);
      break;
    case CourierEvent::Kind::ended:
      on_ended(site, **found, std::move(event));
      break;
    case CourierEvent::Kind::unreachable:
      if (site.bad.size() >= kMostBadAddresses)
        site.bad.clear();
      site.bad[event.address] = steady() + kBadAddress;
      ++counters_.connections_failed;
      break;
    case CourierEvent::Kind::stays:
      giving_way_ -= std::exchange((*found)->gave_way, false) ? 1 : 0;
      break;
    case CourierEvent::Kind::gone:
      on_gone(site, **found, std::move(event));
      break;
  }
}

void Core::on_ready(Site& site, SiteConnection& link, const CourierEvent& event) {
  if (!std::exchange(link.was_ready, true)) {
    --site.connecting;
    site.is_slow = steady() - link.since > usual_time({});
  }
  link.address = event.address;
  link.room = event.room;
  site.is_patient = false;
  if (site.health.on_answer())
    open_again(site);
  site.alarm.clear();
  if (link.in_hand == 0)
    make_idle(site, link);
  schedule(site);
}

void Core::make_idle(Site& site, SiteConnection& link) {
  if (link.idle)
    return;
  if (is_draining_) {
    close_link(link);
    return;
  }
  add_idle(link);
  // Others have none: a site beyond its share goes on with less.
  const bool somebody_has_none = !starved_.prompt.empty() || !starved_.patient.empty();
  if (somebody_has_none && site.links.size() > 1 && !may_add(site))
    close_link(link);
}

void Core::close_link(SiteConnection& link) {
  link.room = 0;
  remove_idle(link);
  if (!std::exchange(link.is_closing, true))
    ++closing_links_;
  link.courier->loop().post([courier = link.courier] { courier->close(); });
}

void Core::on_ended(Site& site, SiteConnection& link, CourierEvent event) {
  auto& end = event.end;
  const auto found = in_hand_.find(end.job.lease);
  POSTRIDER_ASSERT(found != in_hand_.end());
  bool success = false;
  const Outcome* broken = nullptr;
  if (end.reused && !end.goes_on)
    ++counters_.messages_on_reused;
  ++site.progress;
  for (auto& result : end.results) {
    const auto& outcome = result.outcome;
    if (outcome.verdict == Verdict::retry && outcome.reply.code == 0 &&
        (outcome.stage == Stage::body || outcome.stage == Stage::body_end)) {
      if (in_doubt_.size() >= kMostInDoubt)
        in_doubt_.clear();
      in_doubt_.insert(end.job.message->id.value);
    }
    success = success || result.outcome.verdict == Verdict::delivered;
    log_attempt(*found->second, end, result);
  }
  Outcome why;
  if (!success && !end.goes_on && !end.results.empty() &&
      is_about_site(end.results.front().outcome)) {
    why = end.results.front().outcome;
    broken = &why;
  }
  const auto lease = end.job.lease;
  const bool was_heard =
      std::any_of(end.results.begin(), end.results.end(), [](const RecipientEnd& result) {
        return result.outcome.stage >= Stage::mail && result.outcome.reply.code != 0;
      });
  bool has_left_a_place = false;
  if (was_heard && !event.partial) {
    site.is_slow = steady() - end.job.handed_over > usual_time(*end.job.message);
    forget_unproven(link);
    has_left_a_place = prove(site);
  }
  for (auto& result : end.results)
    settle(lease, result.index, std::move(result.outcome), {}, site.handle);
  close_if_done(lease);
  if (success)
    site.health.on_success(clock_.now());
  if (!event.partial) {
    POSTRIDER_ASSERT(link.in_hand > 0);
    if (--link.in_hand == 0)
      forget_busy(link);
  }
  if (event.room == 0)
    link.room = 0;
  if (link.is_idle())
    make_idle(site, link);
  if (broken != nullptr && link.gave_way)
    charge(site, link, *broken);
  else if (broken != nullptr && site.health.on_broken())
    block(site, *broken);
  else
    schedule(site);
  if (has_left_a_place)
    feed_starved();
}

void Core::take_returned(Site& site, CourierEvent& event) {
  auto why = event.failure;
  if (!why.status)
    why = decide(Verdict::retry, Stage::connect, {4, 4, 2},
                 "the connection was closed before the message could be sent");
  // A host that closes after each message: keep nothing waiting behind one.
  if (event.was_useful && !event.returned.empty())
    site.is_one_by_one = true;
  for (auto& job : event.returned) {
    if (is_draining_) {
      put_back(job);
      close_if_done(job.lease);
    } else if (event.was_ready && !event.was_useful && count_return(site, job) >= kMostReturns) {
      settle_all(job, why);  // a host that greets and hangs up must not make us spin
      close_if_done(job.lease);
    } else {
      site.ready.push_front(std::move(job));
    }
  }
}

void Core::on_gone(Site& site, SiteConnection& link, CourierEvent event) {
  take_returned(site, event);
  const bool was_ready = link.was_ready;
  if (!was_ready)
    --site.connecting;
  remove_idle(link);
  forget_stranger(link);
  forget_unproven(link);
  forget_busy(link);
  const bool gave_way = link.gave_way && !was_ready;
  giving_way_ -= link.gave_way ? 1 : 0;
  closing_links_ -= link.is_closing ? 1 : 0;
  std::erase_if(site.links, [&](const auto& one) { return one.get() == &link; });
  --links_;
  if (event.takes_no_mail && !was_ready) {
    auto why = event.failure;
    why.verdict = Verdict::bounce;
    why.status.klass = 5;
    refuse_ready(site, why);
  } else if (gave_way) {
    site.is_patient = true;
    if (!site.ready.empty())
      starve(site);
  } else if (event.is_crowded && !was_ready) {
    site.is_crowded = true;
    starve(site);
  } else if (event.login != LoginTrouble::none && !was_ready) {
    on_login_trouble(site, event);
  } else if (!was_ready && event.failure.status) {
    on_failure(site, event.failure);
  } else {
    schedule(site);
  }
  feed_starved();
  check_drained();
}

}  // namespace postrider::delivery
