#include "smtpd/auth/guard.h"

#include "base/text.h"

#include <algorithm>

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

double Guard::level(const Bucket& bucket, std::uint32_t limit, SteadyTime now) const {
  const auto past = std::chrono::duration<double>(std::max(now, bucket.when) - bucket.when);
  const auto window = std::chrono::duration<double>(rules_.window);
  return std::max(0.0, bucket.level - limit * (past / window));
}

// When there are too many, a handful is looked at and the emptiest goes: a flood of names cannot
// empty a bucket that is full.
Guard::Bucket& Guard::bucket(Buckets& buckets, const std::string& key, SteadyTime now) {
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

bool Guard::charge(Buckets& buckets, const std::string& key, std::uint32_t limit, SteadyTime now) {
  auto& of = bucket(buckets, key, now);
  const auto have = level(of, limit, now);
  const bool has_room = have + 1 <= limit;
  of.level = has_room ? have + 1 : have;
  of.when = now;
  return has_room;
}

void Guard::give_back(Buckets& buckets, const std::string& key, std::uint32_t limit,
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

const Guard::Place* Guard::known_place(const std::string& place, std::string_view account) const {
  const auto at = places_.find(std::string(account));
  if (at == places_.end())
    return nullptr;
  const auto is_it = [&](const Place& one) { return one.address == place; };
  const auto found = std::find_if(at->second.begin(), at->second.end(), is_it);
  return found == at->second.end() ? nullptr : &*found;
}

Guard::Verdict Guard::begin(const IpAddress& client, std::string_view account, std::uint64_t secret,
                            SteadyTime now) {
  const auto place = place_of(client);
  if (const auto* known = known_place(place, account)) {
    const auto pair = pair_of(place, account);
    auto& of = bucket(pairs_, pair, now);
    const bool is_repeated = secret != 0 && of.last_secret == secret && of.level > 0;
    of.last_secret = secret;
    if (is_repeated || charge(pairs_, pair, rules_.per_client, now))
      return Verdict::may_try;
    // Whether it is right is found out by the comparison already: it is charged whatever it says.
    const bool has_more = charge(more_, pair, kMoreAtHome * rules_.per_client, now);
    if (has_more && (secret == 0 || secret == known->secret))
      return Verdict::may_try;
    return Verdict::client_exhausted;
  }
  if (!charge(clients_, place, rules_.per_client, now))
    return Verdict::client_exhausted;
  if (account.empty() || charge(accounts_, std::string(account), rules_.per_account, now))
    return Verdict::may_try;
  return Verdict::account_exhausted;
}

void Guard::undo(const IpAddress& client, std::string_view account, SteadyTime now) {
  const auto place = place_of(client);
  if (known_place(place, account) != nullptr) {
    const auto pair = pair_of(place, account);
    give_back(more_, pair, kMoreAtHome * rules_.per_client, now);
    return give_back(pairs_, pair, rules_.per_client, now);
  }
  give_back(clients_, place, rules_.per_client, now);
  give_back(accounts_, std::string(account), rules_.per_account, now);
}

void Guard::succeeded(const IpAddress& client, std::string_view account, std::string_view user,
                      SteadyTime now, std::uint64_t secret) {
  const auto place = place_of(client);
  const auto* before = known_place(place, user);
  Place fresh{place, secret != 0 || before == nullptr ? secret : before->secret};
  undo(client, account, now);
  pairs_.erase(pair_of(place, user));
  if (places_.size() >= kMostEntries && !places_.contains(std::string(user)))
    return;
  auto& known = places_[std::string(user)];
  std::erase_if(known, [&](const Place& one) { return one.address == place; });
  if (known.size() >= kMostPlaces)
    known.erase(known.begin());
  known.push_back(std::move(fresh));
}

std::string Guard::places() const {
  std::string out;
  for (const auto& [account, known] : places_)
    for (const auto& place : known)
      out.append(account).append(" ").append(place.address).append("\n");
  return out;
}

void Guard::restore(std::string_view places) {
  for (const auto line : split(places, '\n')) {
    const auto space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || places_.size() >= kMostEntries)
      continue;
    auto& known = places_[std::string(line.substr(0, space))];
    if (known.size() < kMostPlaces)
      known.push_back({std::string(line.substr(space + 1)), 0});
  }
}

}  // namespace postrider::smtpd::auth
