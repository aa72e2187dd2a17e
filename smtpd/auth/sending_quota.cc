#include "smtpd/auth/sending_quota.h"

#include <algorithm>
#include <cstring>

namespace postrider::smtpd::auth {

namespace {

constexpr auto kHourSlot = std::chrono::minutes(5);
constexpr std::int64_t kLatestSlot = 1LL << 32U;  // no file of ours goes beyond
constexpr auto kDaySlot = std::chrono::hours(1);
constexpr std::string_view kFormat = "postrider limits 1\n";

constexpr std::string_view kHourNames[] = {"messages an hour", "recipients an hour",
                                           "new recipients an hour"};
constexpr std::string_view kDayNames[] = {"messages a day", "recipients a day",
                                          "new recipients a day"};

template <class Slot>
std::int64_t slot_at(TimePoint when, Slot slot) {
  return when.time_since_epoch() / Duration(slot);
}

template <class T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
bool get(std::string_view& in, T& value) {
  if (in.size() < sizeof value)
    return false;
  std::memcpy(&value, in.data(), sizeof value);
  in.remove_prefix(sizeof value);
  return true;
}

}  // namespace

template <std::size_t kSlots>
void SendingQuota::Window<kSlots>::move_to(std::int64_t slot) {
  const auto count = static_cast<std::int64_t>(kSlots);
  // A clock that was set back does not clear the window.
  for (auto next = std::max(last + 1, slot - count + 1); next <= slot; ++next) {
    auto& old = slots[static_cast<std::size_t>(next % count)];
    sum -= old;
    old = 0;
  }
  last = std::max(last, slot);
}

template <std::size_t kSlots>
void SendingQuota::Window<kSlots>::add(std::uint32_t count) {
  slots[static_cast<std::size_t>(last) % kSlots] += count;
  sum += count;
}

void SendingQuota::Counts::add(std::uint32_t count) {
  hour.add(count);
  day.add(count);
}

SendingQuota::User& SendingQuota::user_of(std::string_view name, TimePoint now) {
  auto at = users_.find(name);
  if (at == users_.end()) {
    if (users_.size() >= kMostUsers)
      users_.erase(std::min_element(users_.begin(), users_.end(), [](const auto& a, const auto& b) {
        return a.second.seen < b.second.seen;
      }));
    at = users_.emplace(std::string(name), User{}).first;
  }
  at->second.seen = now;
  return at->second;
}

bool SendingQuota::fits(User& user, Item item, std::uint32_t count, TimePoint now,
                        Verdict& verdict) {
  const auto is_over = [count](std::uint32_t sum, std::uint32_t most) {
    return most > 0 && std::uint64_t{sum} + count > most;
  };
  auto& counts = user.counts[item];
  counts.hour.move_to(slot_at(now, kHourSlot));
  counts.day.move_to(slot_at(now, kDaySlot));
  const bool hour_full = is_over(counts.hour.sum, rules_.hour[item]);
  const bool day_full = is_over(counts.day.sum, rules_.day[item]);
  if (!hour_full && !day_full)
    return true;
  verdict.limit = day_full ? kDayNames[item] : kHourNames[item];
  verdict.most = day_full ? rules_.day[item] : rules_.hour[item];
  verdict.is_fresh = user.alarm.limit != verdict.limit || now >= user.alarm.until;
  if (verdict.is_fresh)
    user.alarm = {verdict.limit, verdict.most, now, now + std::chrono::hours(1)};
  return false;
}

SendingQuota::Verdict SendingQuota::add_message(std::string_view user, TimePoint now) {
  Verdict verdict;
  auto& of = user_of(user, now);
  if (fits(of, messages, 1, now, verdict))
    of.counts[messages].add(1);
  return verdict;
}

SendingQuota::Verdict SendingQuota::add(std::string_view user, std::uint32_t recipient_count,
                                        TimePoint now) {
  Verdict verdict;
  auto& of = user_of(user, now);
  if (!fits(of, messages, 1, now, verdict) || !fits(of, recipients, recipient_count, now, verdict))
    return verdict;
  of.counts[messages].add(1);
  of.counts[recipients].add(recipient_count);
  return verdict;
}

SendingQuota::Verdict SendingQuota::add_recipient(std::string_view user, std::uint64_t recipient,
                                                  TimePoint now) {
  Verdict verdict;
  auto& of = user_of(user, now);
  const bool is_new = !of.friends.contains(recipient);
  if (!fits(of, recipients, 1, now, verdict) ||
      (is_new && !fits(of, new_recipients, 1, now, verdict)))
    return verdict;
  of.counts[recipients].add(1);
  if (is_new) {
    of.counts[new_recipients].add(1);
    befriend(of, recipient);
  }
  return verdict;
}

void SendingQuota::befriend(User& user, std::uint64_t recipient) {
  if (user.order.size() >= kMostFriends) {
    user.friends.erase(user.order.front());
    user.order.pop_front();
  }
  user.friends.insert(recipient);
  user.order.push_back(recipient);
}

std::vector<SendingQuota::Limited> SendingQuota::limited(TimePoint now) const {
  std::vector<Limited> out;
  for (const auto& [name, user] : users_)
    if (!user.alarm.limit.empty() && now < user.alarm.until)
      out.push_back({name, user.alarm.limit, user.alarm.most, user.alarm.since});
  return out;
}

std::string SendingQuota::save() const {
  std::string out(kFormat);
  for (const auto& [name, user] : users_) {
    put(out, static_cast<std::uint16_t>(name.size()));
    out += name;
    put(out, user.seen.time_since_epoch().count());
    put(out, user.counts);
    put(out, static_cast<std::uint32_t>(user.order.size()));
    for (const auto recipient : user.order)
      put(out, recipient);
  }
  return out;
}

void SendingQuota::restore(std::string_view saved) {
  if (!saved.starts_with(kFormat))
    return;
  saved.remove_prefix(kFormat.size());
  while (!saved.empty() && users_.size() < kMostUsers) {
    std::uint16_t size = 0;
    if (!get(saved, size) || saved.size() < size)
      return;
    std::string name(saved.substr(0, size));
    saved.remove_prefix(size);
    User user;
    Duration::rep seen = 0;
    std::uint32_t friends = 0;
    if (!get(saved, seen) || !get(saved, user.counts) || !get(saved, friends) ||
        friends > kMostFriends)
      return;
    for (std::uint64_t recipient = 0; friends > 0; --friends) {
      if (!get(saved, recipient))
        return;
      if (!user.friends.contains(recipient))
        befriend(user, recipient);
    }
    for (auto& counts : user.counts) {  // sums are what the slots say
      counts.hour.sum = counts.day.sum = 0;
      counts.hour.last = std::clamp<std::int64_t>(counts.hour.last, 0, kLatestSlot);
      counts.day.last = std::clamp<std::int64_t>(counts.day.last, 0, kLatestSlot);
      for (const auto slot : counts.hour.slots)
        counts.hour.sum += slot;
      for (const auto slot : counts.day.slots)
        counts.day.sum += slot;
    }
    user.seen = TimePoint(Duration(seen));
    users_.insert_or_assign(std::move(name), std::move(user));
  }
}

}  // namespace postrider::smtpd::auth
