#include "delivery/connection_line.h"

#include "delivery/site_links.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

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
// Sites that share an address take turns there. The only connection of one goes on for that long.
constexpr Duration kTurn = std::chrono::seconds(10);
// Connections of a site that wait aside for the first word of its host.
constexpr std::size_t kMostUnanswered = 2;

Standing standing_of(const Site& site, SteadyTime now) {
  // The host of a route was chosen by the administrator, but it may hang all the same.
  if (!site.is_proven)
    return site.kind == Site::Kind::mx ? Standing::stranger : Standing::slow;
  const bool hangs = std::any_of(site.links.begin(), site.links.end(), [&](const auto& link) {
    return link->in_hand > 0 && now - link->busy_since > link->may_take;
  });
  return hangs || site.is_slow ? Standing::slow : Standing::prompt;
}

// It was opened for mail that waits, and has carried none: to close it would be to open the next.
bool has_its_turn_yet(const SiteConnection& link) {
  return link.carried == 0 && !link.site->ready.empty();
}

}  // namespace

bool ConnectionLine::may_add(const Site& site) const {
  return shares().may_add(standing_of(site, context_.steady()), site.is_patient, site.links.size(),
                          usage());
}

// Whether it would be opened now, were it not there: what has just been opened may stay.
bool ConnectionLine::may_keep(const SiteConnection& link) const {
  const auto& site = *link.site;
  auto others = usage();
  others.all -= others.all > 0 ? 1 : 0;
  others.strangers -= link.is_stranger ? 1 : 0;
  others.patient -= link.is_patient ? 1 : 0;
  return shares().may_add(standing_of(site, context_.steady()), site.is_patient,
                          site.links.size() - 1, others);
}

void ConnectionLine::on_begun(SiteConnection& link) {
  const auto& site = *link.site;
  const auto standing = standing_of(site, context_.steady());
  link.since = context_.steady();
  link.is_stranger = standing == Standing::stranger;
  link.is_patient = link.is_stranger && site.is_patient;
  if (site.links.empty() && !link.is_patient)
    (standing == Standing::prompt ? prompt_turn_ : newcomer_turn_) = context_.steady();
  tally_.add(link);
  link.unproven = unproven_.insert(unproven_.end(), &link);
}

void ConnectionLine::on_idle(SiteConnection& link) {
  auto& site = *link.site;
  if (!link.is_of_others)
    site.idle.push_back(&link);
  link.idle = idle_.insert(idle_.end(), &link);
  const bool are_too_many =
      tally_.links - tally_.aside > context_.settings->connections;  // it was aside
  if (are_too_many || (!has_its_turn_yet(link) && must_share(link)))
    close(link);
}

// Others have none: a site beyond its share goes on with less.
bool ConnectionLine::must_share(const SiteConnection& link) const {
  const bool is_only_one = link.site->links.size() <= 1;
  if ((waiting_.prompt() > 0 || waiting_.patient() > 0) && !is_only_one && !may_keep(link))
    return true;
  // During its last job a site that has no connection found no place at its address.
  return waiting_.growing() > 0 && addresses_.was_refused_since(link.address, link.busy_since) &&
         (!is_only_one || context_.steady() - link.since >= kTurn);
}

void ConnectionLine::on_job(SiteConnection& link, const Job& job) {
  forget_idle(link);
  if (job.in_doubt)
    tally_.note_doubt(link);
  if (!link.busy)
    link.busy = busy_.insert(busy_.end(), &link);
}

void ConnectionLine::on_job_ended(SiteConnection& link) {
  tally_.forget_aside(link);
  if (link.in_hand > 0)
    return;
  forget_busy(link);
  tally_.forget_doubt(link);
}

void ConnectionLine::on_stays(SiteConnection& link) {
  tally_.forget_giving_way(link);
}

void ConnectionLine::on_waits_aside(SiteConnection& link) {
  on_stays(link);
  // Its job may have ended meanwhile.
  const bool is_over = link.was_ready && link.in_hand == 0;
  if (link.is_aside || is_over || tally_.aside >= most_aside())
    return;
  tally_.note_aside(link);
  tally_.forget_stranger(link);
  feed();
}

// A host that is silent from the start may be so to all: few of its connections wait, and all of
// them leave most of the room to those that carry a message.
std::size_t ConnectionLine::room_unanswered(const Site& site) const {
  const auto waiting = static_cast<std::size_t>(
      std::count_if(site.links.begin(), site.links.end(),
                    [](const auto& link) { return link->is_aside && !link->was_ready; }));
  const auto most = most_aside() / 4;
  return std::min(kMostUnanswered - std::min(waiting, kMostUnanswered),
                  most - std::min(tally_.aside, most));
}

void ConnectionLine::on_ready(SiteConnection& link) {
  tally_.forget_aside(link);
}

std::size_t ConnectionLine::room_aside(const Site& site) const {
  const auto room = kMostHanging - std::min(aside(site), kMostHanging);
  return std::min(room, most_aside() - std::min(tally_.aside, most_aside()));
}

bool ConnectionLine::may_take_doubt(const Site& site) const {
  const auto hanging = static_cast<std::size_t>(
      std::count_if(site.links.begin(), site.links.end(),
                    [](const auto& link) { return link->is_aside || link->has_doubt; }));
  return hanging < kMostHanging &&
         tally_.doubts < std::max<std::size_t>(context_.settings->connections / 4, 1);
}

void ConnectionLine::on_gone(SiteConnection& link) {
  forget_idle(link);
  forget_unproven(link);
  forget_busy(link);
  tally_.remove(link);
}

void ConnectionLine::close(SiteConnection& link) {
  link.room = 0;
  forget_idle(link);
  tally_.note_closing(link);
  link.courier->loop().post([courier = link.courier] { courier->close(); });
}

bool ConnectionLine::prove(SiteConnection& link) {
  forget_unproven(link);
  auto& site = *link.site;
  if (std::exchange(site.is_proven, true))
    return false;
  for (auto& one : site.links)
    tally_.forget_stranger(*one);
  return true;
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
  waiting_.add(site, standing_of(site, context_.steady()) == Standing::prompt);
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
  const auto strangers = waiting_.newcomers() + waiting_.patient();
  if (strangers + waiting_.prompt() == 0)
    return;
  const bool helps_strangers = tally_.strangers < shares().of_strangers();
  const auto wanted = waiting_.prompt() + (helps_strangers ? strangers : 0);
  while (tally_.closing < wanted && evict_idle()) {
  }
  const auto now = context_.steady();
  auto give_way = waiting_.newcomers();
  give_way -= std::min(give_way, tally_.giving_way);
  for (auto* link : unproven_) {  // the oldest first
    if (now - link->since < kQuickTry)
      break;
    const bool has_had_its_turn = link->is_stranger && !link->is_patient && !link->was_ready;
    if (give_way > 0 && has_had_its_turn && !link->gave_way) {
      tally_.note_giving_way(*link);
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
  const bool is_for_prompt = waiting_.prompt() > 0 && now - prompt_turn_ >= kQuickTry;
  const bool is_for_newcomers = waiting_.newcomers() > 0 && now - newcomer_turn_ >= kQuickTry;
  const auto waiting =
      (is_for_prompt ? waiting_.prompt() : 0) + (is_for_newcomers ? waiting_.newcomers() : 0);
  const bool is_for_strangers_only = !is_for_prompt && tally_.strangers >= shares.of_strangers();
  auto wanted = std::min(waiting, shares.batch());
  if (is_for_newcomers && !is_for_strangers_only)
    wanted += shares.missing_for_stranger(usage());
  wanted -= std::min(wanted, tally_.giving_way);
  const bool is_room_aside = tally_.aside < most_aside();
  for (auto* link : busy_) {  // the one that was given its job first
    if (wanted == 0 || now - link->busy_since < kQuickHold)
      return;
    const auto hold = link->is_aside                           ? kLastHold
                      : link->is_stranger && !link->is_patient ? kQuickHold
                                                               : kLongHold;
    const auto silence = hold + link->may_take - usual_time({});
    if (link->gave_way || now - link->busy_since < silence || now - link->asked < kQuickTry ||
        (link->is_aside && is_room_aside) ||
        (is_for_strangers_only && !link->is_stranger && !link->is_aside))
      continue;
    tally_.note_giving_way(*link);
    link->asked = now;
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

void ConnectionLine::feed() {
  waiting_.feed(
      sites_, [this](const Site& site) { return may_add(site); }, on_turn_);
}

bool ConnectionLine::reserve_address(const Site& site, CourierOrder& order) {
  if (addresses_.reserve(site, order, context_.steady()))
    return true;
  close_idle_at(order.candidates);
  return false;
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
