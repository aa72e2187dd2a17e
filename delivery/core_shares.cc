// When there are not enough connections for all: who waits for one, and who gives way.
#include "delivery/core.h"

#include <algorithm>

namespace postrider::delivery {

using Core = Dispatcher::Core;

namespace {

// What takes longer, to connect or to carry a small message, is slow; a large one may take more.
constexpr Duration kSlow = std::chrono::seconds(1);
constexpr std::uint64_t kSlowRate = 1000;  // octets a millisecond
// While others wait: a stranger that has not answered by then tries again behind them, with the
// second of these to answer in, which is also the longest silence of one that carried no message.
constexpr Duration kQuickTry = std::chrono::seconds(1);
constexpr Duration kLongTry = std::chrono::seconds(10);
// While others wait and no place changes hands: a connection that has been silent for that long
// behind what it was given gives up its place. The first is for a stranger's first try, the second
// for all others: what was sent to its end may then arrive twice.
constexpr Duration kQuickHold = std::chrono::seconds(2);
constexpr Duration kLongHold = std::chrono::seconds(30);
constexpr Duration kLook = std::chrono::milliseconds(200);
constexpr std::size_t kMostLooked = 64;
constexpr unsigned kMostForAddress = 20;
constexpr std::size_t kMostSlots = 4096;

}  // namespace

Standing Core::standing_of(const Site& site) const {
  // The host of a route was chosen by the administrator, but it may hang all the same.
  if (!site.is_proven)
    return site.kind == Site::Kind::mx ? Standing::stranger : Standing::slow;
  const auto now = steady();
  const bool hangs = std::any_of(site.links.begin(), site.links.end(), [&](const auto& link) {
    return link->in_hand > 0 && now - link->busy_since > link->may_take;
  });
  return hangs || site.is_slow ? Standing::slow : Standing::prompt;
}

Duration Core::usual_time(const mail::Message& message) {
  return kSlow + Duration(static_cast<Duration::rep>(message.content.size / kSlowRate));
}

bool Core::may_add(const Site& site) const {
  const ConnectionShares shares(settings_->connections);
  return shares.may_add(standing_of(site), site.is_patient, site.links.size(),
                        {links_, strangers_, patient_});
}

// It carried a message to its end: no stranger any more. True: it was one.
bool Core::prove(Site& site) {
  if (std::exchange(site.is_proven, true))
    return false;
  for (auto& link : site.links)
    forget_stranger(*link);
  return true;
}

void Core::forget_stranger(SiteConnection& link) {
  if (std::exchange(link.is_stranger, false))
    --strangers_;
  if (std::exchange(link.is_patient, false))
    --patient_;
}

void Core::forget_unproven(SiteConnection& link) {
  if (link.unproven)
    unproven_.erase(*link.unproven);
  link.unproven.reset();
}

void Core::add_idle(SiteConnection& link) {
  link.site->idle.push_back(&link);
  link.idle = idle_.insert(idle_.end(), &link);
}

void Core::remove_idle(SiteConnection& link) {
  std::erase(link.site->idle, &link);
  if (link.idle)
    idle_.erase(*link.idle);
  link.idle.reset();
}

void Core::starve(Site& site) {
  if (std::exchange(site.is_starved, true))
    return;
  auto& line = !site.links.empty() || site.is_crowded  ? starved_.growing
               : standing_of(site) == Standing::prompt ? starved_.prompt
               : site.is_patient || site.is_proven     ? starved_.patient
                                                       : starved_.newcomers;
  line.push_back(site.handle);
  relieve();
  look_at_starved();
}

void Core::look_at_starved() {
  if (starved_.is_empty() || is_draining_ || (look_ && look_->is_set()))
    return;
  if (!look_)
    look_ = std::make_unique<Deadline>(home().deadlines(), [this] {
      relieve();
      feed_starved();
      look_at_starved();
    });
  look_->set(kLook);
}

// Makes room for those that have no connection at all.
void Core::relieve() {
  const auto strangers = starved_.newcomers.size() + starved_.patient.size();
  if (strangers + starved_.prompt.size() == 0)
    return;
  const ConnectionShares shares(settings_->connections);
  const bool helps_strangers = strangers_ < shares.of_strangers();
  const auto wanted = starved_.prompt.size() + (helps_strangers ? strangers : 0);
  while (closing_links_ < wanted && evict_idle()) {
  }
  const auto now = steady();
  auto give_way = starved_.newcomers.size();
  give_way -= std::min(give_way, giving_way_);
  for (auto* link : unproven_) {  // the oldest first
    if (now - link->since < kQuickTry)
      break;
    const bool has_had_its_turn = link->is_stranger && !link->is_patient && !link->was_ready;
    if (give_way > 0 && has_had_its_turn && !link->gave_way) {
      link->gave_way = true;
      ++giving_way_;
      --give_way;
      link->courier->loop().post([courier = link->courier] { courier->abort(); });
    } else if (!std::exchange(link->is_hurried, true)) {
      link->courier->loop().post([courier = link->courier] { courier->hurry(kLongTry); });
    }
  }
  ask_the_silent();
}

// Where no place has changed hands for a while, for those that have shown nothing, good or bad, and
// for those that are prompt: others hang. What they are silent about only their couriers know.
void Core::ask_the_silent() {
  const auto now = steady();
  const ConnectionShares shares(settings_->connections);
  const bool is_for_prompt = !starved_.prompt.empty() && now - prompt_turn_ >= kQuickTry;
  const bool is_for_newcomers = !starved_.newcomers.empty() && now - newcomer_turn_ >= kQuickTry;
  const auto waiting = (is_for_prompt ? starved_.prompt.size() : 0) +
                       (is_for_newcomers ? starved_.newcomers.size() : 0);
  const bool is_for_strangers_only = !is_for_prompt && strangers_ >= shares.of_strangers();
  auto wanted = std::min(waiting, shares.batch());
  if (is_for_newcomers && !is_for_strangers_only)
    wanted += shares.missing_for_stranger({links_, strangers_, patient_});
  wanted -= std::min(wanted, giving_way_);
  for (auto* link : busy_) {  // the one that was given its job first
    if (wanted == 0 || now - link->busy_since < kQuickHold)
      return;
    const auto hold = link->is_stranger && !link->is_patient ? kQuickHold : kLongHold;
    const auto silence = hold + link->may_take - kSlow;
    if (link->gave_way || now - link->busy_since < silence || now - link->asked < kQuickTry ||
        (is_for_strangers_only && !link->is_stranger))
      continue;
    link->gave_way = true;
    link->asked = now;
    ++giving_way_;
    --wanted;
    link->courier->loop().post([courier = link->courier, silence] { courier->give_way(silence); });
  }
}

void Core::forget_busy(SiteConnection& link) {
  if (link.busy)
    busy_.erase(*link.busy);
  link.busy.reset();
}

// It hangs: what waits for its site waits until it is tried again, and it has more time then.
void Core::charge(Site& site, const SiteConnection& link, const mail::Outcome& why) {
  const auto others = std::count_if(site.links.begin(), site.links.end(), [&](const auto& one) {
    return one.get() != &link && one->was_ready && !one->gave_way;
  });
  if (others > 0)
    site.health.on_crowded(static_cast<unsigned>(others), clock_.now());
  else if (site.health.state(clock_.now()) != SiteHealth::State::blocked)
    block(site, why);
  site.is_patient = true;
}

// Of those that have been idle for long, one of the site with the most connections.
bool Core::evict_idle() {
  SiteConnection* chosen = nullptr;
  std::size_t looked = 0;
  for (auto* link : idle_) {
    if (chosen == nullptr || link->site->links.size() > chosen->site->links.size())
      chosen = link;
    if (++looked == kMostLooked)
      break;
  }
  if (chosen == nullptr)
    return false;
  close_link(*chosen);
  return true;
}

// Newcomers alternately from both ends: a flood of them makes nobody wait for all that came before.
void Core::feed_starved() {
  feed(starved_.prompt, false);
  feed(starved_.newcomers, true);
  feed(starved_.patient, false);
  feed(starved_.growing, false);
}

void Core::feed(std::deque<std::uint64_t>& line, bool from_both_ends) {
  for (auto left = std::min(line.size(), kMostLooked); left > 0 && !line.empty(); --left) {
    const bool newest = from_both_ends && newest_next_;
    const auto handle = newest ? line.back() : line.front();
    newest ? line.pop_back() : line.pop_front();
    const auto found = site_of_handle_.find(handle);
    if (found == site_of_handle_.end())
      continue;
    auto& site = *found->second;
    if (!site.ready.empty() && !may_add(site)) {
      if (&line == &starved_.growing) {
        line.push_back(handle);
        continue;
      }
      newest ? line.push_back(handle) : line.push_front(handle);
      return;
    }
    newest_next_ = newest_next_ != from_both_ends;  // only after one had its turn
    site.is_starved = site.is_crowded = false;
    schedule(site);
  }
}

// Anybody can let many names lead to one address. Takes a place at the first candidate that has
// one, which goes to the front; false: there is none anywhere.
bool Core::reserve_address(CourierOrder& order) {
  if (address_slots_.size() > kMostSlots)
    std::erase_if(address_slots_, [](const auto& entry) {
      return entry.second.use_count() == 1 && entry.second->is_unused();
    });
  auto& candidates = order.candidates;
  for (auto& candidate : candidates) {
    auto& slot = address_slots_[candidate.address];
    if (!slot)
      slot = std::make_shared<AddressSlot>(std::max(kMostForAddress, settings_->site_connections));
    candidate.slot = slot;
  }
  for (auto candidate = candidates.begin(); candidate != candidates.end(); ++candidate)
    if (auto hold = AddressSlot::take(candidate->slot)) {
      order.hold.emplace(std::move(hold));
      std::rotate(candidates.begin(), candidate, candidate + 1);
      return true;
    }
  if (!candidates.empty())
    close_idle_at(candidates);
  return candidates.empty();
}

// Of another site, so that its place becomes free.
void Core::close_idle_at(const std::vector<HostAddress>& candidates) {
  std::size_t looked = 0;
  for (auto* link : idle_) {
    const bool is_there = std::any_of(candidates.begin(), candidates.end(), [&](const auto& one) {
      return one.address == link->address;
    });
    if (is_there) {
      close_link(*link);
      return;
    }
    if (++looked == kMostLooked * 4)
      return;
  }
}

}  // namespace postrider::delivery
