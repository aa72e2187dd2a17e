#include "delivery/connection_line.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

// What takes longer, to connect or to carry a small message, is slow; a large one may take more.
constexpr Duration kSlow = std::chrono::seconds(1);
constexpr std::uint64_t kSlowRate = 1000;  // octets a millisecond
// While others wait: a stranger that has not answered by then tries again behind them, with the
// second of these to answer in, which is also the longest silence of one that carried no message.
constexpr Duration kQuickTry = std::chrono::seconds(1);
constexpr Duration kLongTry = std::chrono::seconds(10);
// While others wait and no place changes hands: a connection that has been silent for that long
// behind what it was given gives up its place, and waits aside. The first is for a stranger's first
// try, the second for all others; the last ends those aside where no more may be aside.
constexpr Duration kQuickHold = std::chrono::seconds(2);
constexpr Duration kLongHold = std::chrono::seconds(30);
constexpr Duration kLastHold = std::chrono::minutes(2);
constexpr Duration kLook = std::chrono::milliseconds(200);
constexpr std::size_t kMostLooked = 64;
// Of a site, that wait for the reply to the final dot for long, beside those that count.
constexpr std::size_t kMostHanging = 10;
constexpr unsigned kMostForAddress = 20;
constexpr std::size_t kMostSlots = 4096;
// Sites that share an address take turns there. The only connection of one goes on for that long.
constexpr Duration kTurn = std::chrono::seconds(10);

std::size_t aside_of(const Site& site) {
  return static_cast<std::size_t>(std::count_if(site.links.begin(), site.links.end(),
                                                [](const auto& link) { return link->is_aside; }));
}

}  // namespace

Standing ConnectionLine::standing_of(const Site& site) const {
  // The host of a route was chosen by the administrator, but it may hang all the same.
  if (!site.is_proven)
    return site.kind == Site::Kind::mx ? Standing::stranger : Standing::slow;
  const auto now = context_.steady();
  const bool hangs = std::any_of(site.links.begin(), site.links.end(), [&](const auto& link) {
    return link->in_hand > 0 && now - link->busy_since > link->may_take;
  });
  return hangs || site.is_slow ? Standing::slow : Standing::prompt;
}

Duration ConnectionLine::usual_time(const mail::Message& message) {
  return kSlow + Duration(static_cast<Duration::rep>(message.content.size / kSlowRate));
}

bool ConnectionLine::may_add(const Site& site) const {
  return shares().may_add(standing_of(site), site.is_patient, site.links.size(), usage());
}

// Whether it would be opened now, were it not there: what has just been opened may stay.
bool ConnectionLine::may_keep(const SiteConnection& link) const {
  const auto& site = *link.site;
  auto others = usage();
  others.all -= others.all > 0 ? 1 : 0;
  others.strangers -= link.is_stranger ? 1 : 0;
  others.patient -= link.is_patient ? 1 : 0;
  return shares().may_add(standing_of(site), site.is_patient, site.links.size() - 1, others);
}

void ConnectionLine::on_begun(SiteConnection& link) {
  const auto& site = *link.site;
  const auto standing = standing_of(site);
  link.since = context_.steady();
  link.is_stranger = standing == Standing::stranger;
  link.is_patient = link.is_stranger && site.is_patient;
  if (site.links.empty() && !link.is_patient)
    (standing == Standing::prompt ? prompt_turn_ : newcomer_turn_) = context_.steady();
  strangers_ += link.is_stranger ? 1 : 0;
  patient_ += link.is_patient ? 1 : 0;
  link.unproven = unproven_.insert(unproven_.end(), &link);
  ++links_;
}

void ConnectionLine::on_idle(SiteConnection& link) {
  auto& site = *link.site;
  if (!link.is_of_others)
    site.idle.push_back(&link);
  link.idle = idle_.insert(idle_.end(), &link);
  const bool are_too_many = links_ - aside_ > context_.settings->connections;  // it was aside
  if (are_too_many || (!has_its_turn_yet(link) && must_share(link)))
    close(link);
}

// It was opened for mail that waits, and has carried none: to close it would be to open the next.
bool ConnectionLine::has_its_turn_yet(const SiteConnection& link) {
  return link.carried == 0 && !link.site->ready.empty();
}

// Others have none: a site beyond its share goes on with less.
bool ConnectionLine::must_share(const SiteConnection& link) const {
  const bool somebody_has_none = !waiting_.prompt.empty() || !waiting_.patient.empty();
  return (somebody_has_none && link.site->links.size() > 1 && !may_keep(link)) ||
         must_share_address(link);
}

void ConnectionLine::on_job(SiteConnection& link, const Job& job) {
  forget_idle(link);
  if (job.in_doubt && !std::exchange(link.has_doubt, true))
    ++doubts_;
  if (!link.busy)
    link.busy = busy_.insert(busy_.end(), &link);
}

void ConnectionLine::on_job_ended(SiteConnection& link) {
  forget_aside(link);
  if (link.in_hand > 0)
    return;
  forget_busy(link);
  forget_doubt(link);
}

void ConnectionLine::on_stays(SiteConnection& link) {
  giving_way_ -= std::exchange(link.gave_way, false) ? 1 : 0;
}

void ConnectionLine::on_waits_aside(SiteConnection& link) {
  on_stays(link);
  // Its job may have ended meanwhile.
  if (link.is_aside || link.in_hand == 0 || aside_ >= most_aside())
    return;
  link.is_aside = true;
  ++aside_;
  forget_stranger(link);
  feed();
}

void ConnectionLine::forget_aside(SiteConnection& link) {
  aside_ -= std::exchange(link.is_aside, false) ? 1 : 0;
}

void ConnectionLine::forget_doubt(SiteConnection& link) {
  doubts_ -= std::exchange(link.has_doubt, false) ? 1 : 0;
}

std::size_t ConnectionLine::counted(const Site& site) {
  return site.links.size() - std::min(aside_of(site), kMostHanging);
}

std::size_t ConnectionLine::room_aside(const Site& site) const {
  const auto room = kMostHanging - std::min(aside_of(site), kMostHanging);
  return std::min(room, most_aside() - std::min(aside_, most_aside()));
}

bool ConnectionLine::may_take_doubt(const Site& site) const {
  const auto hanging = static_cast<std::size_t>(
      std::count_if(site.links.begin(), site.links.end(),
                    [](const auto& link) { return link->is_aside || link->has_doubt; }));
  return hanging < kMostHanging &&
         doubts_ < std::max<std::size_t>(context_.settings->connections / 4, 1);
}

void ConnectionLine::on_gone(SiteConnection& link) {
  forget_aside(link);
  forget_doubt(link);
  forget_idle(link);
  forget_stranger(link);
  forget_unproven(link);
  forget_busy(link);
  giving_way_ -= link.gave_way ? 1 : 0;
  closing_ -= link.is_closing ? 1 : 0;
  --links_;
}

void ConnectionLine::close(SiteConnection& link) {
  link.room = 0;
  forget_idle(link);
  if (!std::exchange(link.is_closing, true))
    ++closing_;
  link.courier->loop().post([courier = link.courier] { courier->close(); });
}

bool ConnectionLine::prove(SiteConnection& link) {
  forget_unproven(link);
  auto& site = *link.site;
  if (std::exchange(site.is_proven, true))
    return false;
  for (auto& one : site.links)
    forget_stranger(*one);
  return true;
}

void ConnectionLine::forget_stranger(SiteConnection& link) {
  if (std::exchange(link.is_stranger, false))
    --strangers_;
  if (std::exchange(link.is_patient, false))
    --patient_;
}

void ConnectionLine::forget_unproven(SiteConnection& link) {
  if (link.unproven)
    unproven_.erase(*link.unproven);
  link.unproven.reset();
}

void ConnectionLine::forget_busy(SiteConnection& link) {
  if (link.busy)
    busy_.erase(*link.busy);
  link.busy.reset();
}

void ConnectionLine::forget_idle(SiteConnection& link) {
  std::erase(link.site->idle, &link);
  if (link.idle)
    idle_.erase(*link.idle);
  link.idle.reset();
}

void ConnectionLine::wait(Site& site) {
  if (std::exchange(site.is_starved, true))
    return;
  auto& line = !site.links.empty() || site.is_crowded  ? waiting_.growing
               : standing_of(site) == Standing::prompt ? waiting_.prompt
               : site.is_patient || site.is_proven     ? waiting_.patient
                                                       : waiting_.newcomers;
  line.push_back(site.handle);
  relieve();
  look_again();
}

void ConnectionLine::look_again() {
  if (waiting_.is_empty() || context_.is_draining || (look_ && look_->is_set()))
    return;
  if (!look_)
    look_ = std::make_unique<Deadline>(context_.home.deadlines(), [this] {
      relieve();
      feed();
      look_again();
    });
  look_->set(kLook);
}

// Makes room for those that have no connection at all.
void ConnectionLine::relieve() {
  const auto strangers = waiting_.newcomers.size() + waiting_.patient.size();
  if (strangers + waiting_.prompt.size() == 0)
    return;
  const bool helps_strangers = strangers_ < shares().of_strangers();
  const auto wanted = waiting_.prompt.size() + (helps_strangers ? strangers : 0);
  while (closing_ < wanted && evict_idle()) {
  }
  const auto now = context_.steady();
  auto give_way = waiting_.newcomers.size();
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
void ConnectionLine::ask_the_silent() {
  const auto now = context_.steady();
  const auto shares = this->shares();
  const bool is_for_prompt = !waiting_.prompt.empty() && now - prompt_turn_ >= kQuickTry;
  const bool is_for_newcomers = !waiting_.newcomers.empty() && now - newcomer_turn_ >= kQuickTry;
  const auto waiting = (is_for_prompt ? waiting_.prompt.size() : 0) +
                       (is_for_newcomers ? waiting_.newcomers.size() : 0);
  const bool is_for_strangers_only = !is_for_prompt && strangers_ >= shares.of_strangers();
  auto wanted = std::min(waiting, shares.batch());
  if (is_for_newcomers && !is_for_strangers_only)
    wanted += shares.missing_for_stranger(usage());
  wanted -= std::min(wanted, giving_way_);
  const bool is_room_aside = aside_ < most_aside();
  for (auto* link : busy_) {  // the one that was given its job first
    if (wanted == 0 || now - link->busy_since < kQuickHold)
      return;
    const auto hold = link->is_aside                           ? kLastHold
                      : link->is_stranger && !link->is_patient ? kQuickHold
                                                               : kLongHold;
    const auto silence = hold + link->may_take - kSlow;
    if (link->gave_way || now - link->busy_since < silence || now - link->asked < kQuickTry ||
        (link->is_aside && is_room_aside) ||
        (is_for_strangers_only && !link->is_stranger && !link->is_aside))
      continue;
    link->gave_way = true;
    link->asked = now;
    ++giving_way_;
    --wanted;
    link->courier->loop().post([courier = link->courier, silence, ends = link->is_aside] {
      courier->give_way(silence, ends);
    });
  }
}

// Of those that have been idle for long, one of the site with the most connections.
bool ConnectionLine::evict_idle() {
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
  close(*chosen);
  return true;
}

// Newcomers alternately from both ends: a flood of them makes nobody wait for all that came before.
void ConnectionLine::feed() {
  feed_line(waiting_.prompt, false);
  feed_line(waiting_.newcomers, true);
  feed_line(waiting_.patient, false);
  feed_line(waiting_.growing, false);
}

void ConnectionLine::feed_line(std::deque<std::uint64_t>& line, bool from_both_ends) {
  for (auto left = std::min(line.size(), kMostLooked); left > 0 && !line.empty(); --left) {
    const bool newest = from_both_ends && newest_next_;
    const auto handle = newest ? line.back() : line.front();
    newest ? line.pop_back() : line.pop_front();
    auto* found = sites_.of_handle(handle);
    if (found == nullptr)
      continue;
    auto& site = *found;
    if (!site.ready.empty() && !may_add(site)) {
      if (&line == &waiting_.growing) {
        line.push_back(handle);
        continue;
      }
      newest ? line.push_back(handle) : line.push_front(handle);
      return;
    }
    newest_next_ = newest_next_ != from_both_ends;  // only after one had its turn
    site.is_starved = site.is_crowded = false;
    on_turn_(site);
  }
}

// Anybody can let many names lead to one address.
bool ConnectionLine::reserve_address(const Site& site, CourierOrder& order) {
  if (addresses_.size() > kMostSlots)
    std::erase_if(addresses_, [](const auto& entry) {
      return entry.second.slot.use_count() == 1 && entry.second.slot->is_unused();
    });
  auto& candidates = order.candidates;
  for (auto& candidate : candidates) {
    auto& slot = addresses_[candidate.address].slot;
    if (!slot)
      slot =
          std::make_shared<AddressSlot>(std::max(kMostForAddress, site.pace.bounds().connections));
    candidate.slot = slot;
  }
  for (auto candidate = candidates.begin(); candidate != candidates.end(); ++candidate)
    if (auto hold = AddressSlot::take(candidate->slot)) {
      order.hold.emplace(std::move(hold));
      std::rotate(candidates.begin(), candidate, candidate + 1);
      return true;
    }
  if (site.links.empty())
    for (const auto& candidate : candidates)
      addresses_[candidate.address].refused = context_.steady();
  if (!candidates.empty())
    close_idle_at(candidates);
  return candidates.empty();
}

// During its last job a site that has no connection found no place at its address. Such sites try
// again all the time, so what was refused longer ago is over.
bool ConnectionLine::must_share_address(const SiteConnection& link) const {
  if (waiting_.growing.empty())
    return false;
  const auto found = addresses_.find(link.address);
  if (found == addresses_.end() || found->second.refused < link.busy_since)
    return false;
  return link.site->links.size() > 1 || context_.steady() - link.since >= kTurn;
}

// Of another site, so that its place becomes free.
void ConnectionLine::close_idle_at(const std::vector<HostAddress>& candidates) {
  std::size_t looked = 0;
  for (auto* link : idle_) {
    const bool is_there = std::any_of(candidates.begin(), candidates.end(), [&](const auto& one) {
      return one.address == link->address;
    });
    if (is_there) {
      close(*link);
      return;
    }
    if (++looked == kMostLooked * 4)
      return;
  }
}

}  // namespace postrider::delivery
