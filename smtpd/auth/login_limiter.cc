#include "smtpd/auth/login_limiter.h"

#include "base/text.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd::auth {

namespace {

// One customer of IPv6 has a /64 at least.
std::string place_of(const IpAddress& client) {
  if (client.is_none())
    return "local";
  return (client.is_v6() ? client.masked(64) : client).str();
}

std::string pair_of(const std::string& place, std::string_view account) {
  return place + " " + std::string(account);
}

}  // namespace

double LoginLimiter::level(const Bucket& bucket, std::uint32_t limit, SteadyTime now) const {
  const auto past = std::chrono::duration<double>(std::max(now, bucket.when) - bucket.when);
  const auto window = std::chrono::duration<double>(rules_.window);
  return std::max(0.0, bucket.level - limit * (past / window));
}

// When there are too many, a handful is looked at and the emptiest goes: a flood of names cannot
// empty a bucket that is full.
LoginLimiter::Bucket& LoginLimiter::bucket(Buckets& buckets, const std::string& key,
                                           SteadyTime now) {
  if (buckets.size() >= kMostEntries && !buckets.contains(key)) {
    auto emptiest = buckets.begin();
    auto at = emptiest;
    for (int looked = 0; looked < 16 && at != buckets.end(); ++looked, ++at)
      if (level(at->second, 1, now) < level(emptiest->second, 1, now))
        emptiest = at;
    buckets.erase(emptiest);
  }
  return buckets[key];
}

bool LoginLimiter::charge(Buckets& buckets, const std::string& key, std::uint32_t limit,
                          SteadyTime now) {
  auto& of = bucket(buckets, key, now);
  const auto have = level(of, limit, now);
  const bool has_room = have + 1 <= limit;
  of.level = has_room ? have + 1 : have;
  of.when = now;
  return has_room;
}

void LoginLimiter::give_back(Buckets& buckets, const std::string& key, std::uint32_t limit,
                             SteadyTime now) {
  const auto at = buckets.find(key);
  if (at == buckets.end())
    return;
  const auto have = level(at->second, limit, now);
  if (have <= 1)
    buckets.erase(at);
  else
    at->second = {have - 1, now, at->second.last_secret};
}

const LoginLimiter::Place* LoginLimiter::known_place(const std::string& place,
                                                     std::string_view account) const {
  const auto at = places_.find(std::string(account));
  if (at == places_.end())
    return nullptr;
  const auto is_it = [&](const Place& one) { return one.address == place; };
  const auto found = std::find_if(at->second.begin(), at->second.end(), is_it);
  return found == at->second.end() ? nullptr : &*found;
}

LoginLimiter::Try LoginLimiter::begin_at_home(Try made, const Place& known, SteadyTime now) {
  const auto pair = pair_of(made.place, made.account);
  auto& of = bucket(pairs_, pair, now);
  const bool is_repeated = made.secret != 0 && of.last_secret == made.secret && of.level > 0;
  of.last_secret = made.secret;
  if (is_repeated)
    return made;
  made.charged_to = Try::ChargedTo::pair;
  if (charge(pairs_, pair, rules_.per_client, now))
    return made;
  // Whether it is right is found out by the comparison already: it is charged whatever it says.
  made.charged_to = Try::ChargedTo::more;
  const bool has_more = charge(more_, pair, kMoreAtHome * rules_.per_client, now);
  const bool may_be_right = made.secret == 0 || known.is_restored || made.secret == known.secret;
  if (!has_more || !may_be_right)
    made.verdict = Verdict::client_exhausted;
  return made;
}

LoginLimiter::Try LoginLimiter::begin(const IpAddress& client, std::string_view account,
                                      std::uint64_t secret, SteadyTime now) {
  Try made;
  made.place = place_of(client);
  made.account = account;
  made.secret = secret;
  if (const auto* known = known_place(made.place, account))
    return begin_at_home(std::move(made), *known, now);
  made.charged_to = account.empty() ? Try::ChargedTo::client : Try::ChargedTo::client_and_account;
  if (!charge(clients_, made.place, rules_.per_client, now))
    made.verdict = Verdict::client_exhausted;
  else if (!account.empty() && !charge(accounts_, made.account, rules_.per_account, now))
    made.verdict = Verdict::account_exhausted;
  return made;
}

void LoginLimiter::undo(Try& charged, SteadyTime now) {
  if (charged.verdict != Verdict::may_try)
    return;
  switch (std::exchange(charged.charged_to, Try::ChargedTo::nothing)) {
    case Try::ChargedTo::nothing:
      return;
    case Try::ChargedTo::pair:
      return give_back(pairs_, pair_of(charged.place, charged.account), rules_.per_client, now);
    case Try::ChargedTo::more:
      return give_back(more_, pair_of(charged.place, charged.account),
                       kMoreAtHome * rules_.per_client, now);
    case Try::ChargedTo::client_and_account:
      give_back(accounts_, charged.account, rules_.per_account, now);
      [[fallthrough]];
    case Try::ChargedTo::client:
      return give_back(clients_, charged.place, rules_.per_client, now);
  }
}

void LoginLimiter::not_judged(Try& charged, SteadyTime now) {
  const bool is_known_place =
      charged.charged_to == Try::ChargedTo::pair || charged.charged_to == Try::ChargedTo::more;
  const auto key = is_known_place ? pair_of(charged.place, charged.account) : charged.place;
  const auto more = is_known_place ? kMoreAtHome : kMoreNotJudged;
  if (charge(not_judged_, key, more * rules_.per_client, now))
    undo(charged, now);
}

void LoginLimiter::broken_off(Try& charged, SteadyTime now) {
  const bool is_known_place =
      charged.charged_to == Try::ChargedTo::pair || charged.charged_to == Try::ChargedTo::more;
  if (is_known_place)
    return undo(charged, now);
  if (charged.verdict == Verdict::may_try &&
      std::exchange(charged.charged_to, Try::ChargedTo::nothing) ==
          Try::ChargedTo::client_and_account)
    give_back(accounts_, charged.account, rules_.per_account, now);
}

void LoginLimiter::succeeded(Try& charged, std::string_view user, SteadyTime now) {
  const auto& place = charged.place;
  const auto* before = known_place(place, user);
  Place fresh{place, charged.secret != 0 || before == nullptr ? charged.secret : before->secret};
  undo(charged, now);
  pairs_.erase(pair_of(place, user));
  if (places_.size() >= kMostEntries && !places_.contains(std::string(user)))
    return;
  auto& known = places_[std::string(user)];
  std::erase_if(known, [&](const Place& one) { return one.address == place; });
  if (known.size() >= kMostPlaces)
    known.erase(known.begin());
  known.push_back(std::move(fresh));
}

std::string LoginLimiter::places() const {
  std::string out;
  for (const auto& [account, known] : places_)
    for (const auto& place : known)
      out.append(account).append(" ").append(place.address).append("\n");
  return out;
}

void LoginLimiter::restore(std::string_view places) {
  for (const auto line : split(places, '\n')) {
    const auto space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || places_.size() >= kMostEntries)
      continue;
    auto& known = places_[std::string(line.substr(0, space))];
    if (known.size() < kMostPlaces)
      known.push_back({std::string(line.substr(space + 1)), 0, true});
  }
}

}  // namespace postrider::smtpd::auth
