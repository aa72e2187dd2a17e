#include "delivery/scheduler/host_book.h"

#include <algorithm>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Duration kFirstTest = seconds(30);
constexpr Duration kLastTest = minutes(30);
constexpr Duration kCapKept = hours(1);

}  // namespace

void HostBook::set_hosts(std::vector<RemoteHost> hosts) {
  std::vector<Entry> entries;
  for (RemoteHost& host : hosts) {
    Entry entry;
    for (const Entry& old : entries_)
      if (old.host.name == host.name && old.host.family == host.family)
        entry = old;
    entry.host = std::move(host);
    entries.push_back(std::move(entry));
  }
  entries_ = std::move(entries);
}

bool HostBook::has_ipv4() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const Entry& entry) { return entry.host.family == Family::ipv4; });
}

bool HostBook::is_usable(const Entry& entry, TimePoint now) const {
  return entry.host.family == Family::ipv4 || now >= ipv6_off_until_ || !has_ipv4();
}

unsigned HostBook::room(const Entry& entry, TimePoint now) const {
  const unsigned cap = now >= entry.cap_until ? kNoCap : entry.cap;
  return cap > entry.open ? cap - entry.open : 0;
}

std::optional<std::size_t> HostBook::choose(TimePoint now, bool is_probe) const {
  std::optional<std::size_t> best, soonest;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (!is_usable(entry, now))
      continue;
    if (entry.fails > 0) {
      if (now >= entry.retry_at && entry.open == 0)
        return i;
      if (!soonest || entry.retry_at < entries_[*soonest].retry_at)
        soonest = i;
      continue;
    }
    if (!best || entry.host.preference < entries_[*best].host.preference ||
        (entry.host.preference == entries_[*best].host.preference &&
         room(entry, now) > room(entries_[*best], now)))
      best = i;
  }
  if (best && room(entries_[*best], now) > 0)
    return best;
  return is_probe && !best ? soonest : std::nullopt;
}

TimePoint HostBook::next_test() const {
  TimePoint next = TimePoint::max();
  for (const Entry& entry : entries_)
    if (entry.fails > 0 && entry.open == 0)
      next = std::min(next, entry.retry_at);
  return next;
}

bool HostBook::has_healthy(TimePoint now) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.fails == 0 && is_usable(entry, now); });
}

void HostBook::on_closed(std::size_t index) {
  if (entries_[index].open > 0)
    --entries_[index].open;
}

void HostBook::on_worked(std::size_t index) {
  entries_[index].fails = 0;
}

void HostBook::on_failed(std::size_t index, TimePoint now) {
  Entry& entry = entries_[index];
  const unsigned power = std::min(entry.fails, 6U);
  ++entry.fails;
  entry.retry_at = now + std::min(kFirstTest * (1 << power), kLastTest);
}

bool HostBook::on_refused(std::size_t index, TimePoint now) {
  Entry& entry = entries_[index];
  if (entries_.size() == 1)
    return true;
  if (entry.open == 0) {
    on_failed(index, now);
    return !has_healthy(now);
  }
  entry.cap = entry.open;
  entry.cap_until = now + kCapKept;
  return std::none_of(entries_.begin(), entries_.end(), [&](const Entry& other) {
    return other.fails == 0 && is_usable(other, now) && room(other, now) > 0;
  });
}

void HostBook::on_ipv6_refused(TimePoint now) {
  if (now < ipv6_off_until_)
    return;
  ipv6_off_until_ = now + std::min<Duration>(hours(1 << std::min(ipv6_refusals_, 5U)), hours(24));
  ++ipv6_refusals_;
}

}  // namespace postrider::scheduler
