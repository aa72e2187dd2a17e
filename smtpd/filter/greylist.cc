#include "smtpd/filter/greylist.h"

#include "base/digest.h"
#include "base/text.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace postrider::smtpd::filter {

namespace {

constexpr std::size_t kKey = 12;  // octets of a digest: enough that none meets another by chance

std::string key_of(std::string_view text) {
  return encode_hex(sha256(text).substr(0, kKey));
}

std::string network_of(const IpAddress& client) {
  return client.masked(client.is_v4() ? 24 : 64).str();
}

// VERP and SRS senders differ with each message: what follows a sign of them counts for nothing.
std::string sender_of(std::string_view sender) {
  const auto at = std::min(sender.rfind('@'), sender.size());
  auto local = sender.substr(0, at);
  std::string shortened;
  for (const char c : local.substr(0, local.find_first_of("+=")))
    if (c < '0' || c > '9')
      shortened.push_back(c);
  return ascii_lower(shortened + std::string(sender.substr(at)));
}

std::int64_t stamp(TimePoint when) {
  return when.time_since_epoch().count();
}

}  // namespace

void Greylist::set_rules(const Rules& rules) {
  const std::lock_guard lock(mutex_);
  rules_ = rules;
}

std::size_t Greylist::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

bool Greylist::is_over(const Entry& entry, TimePoint now) const {
  return entry.is_known ? now - entry.last > rules_.lifetime : now - entry.first > rules_.window;
}

void Greylist::erase(Entries::iterator at) {
  auto& entry = at->second;
  (entry.is_known ? known_ : waiting_).erase(entry.place);
  if (const auto share = waiting_of_.find(entry.network);
      !entry.is_known && share != waiting_of_.end() && --share->second == 0)
    waiting_of_.erase(share);
  entries_.erase(at);
}

void Greylist::make_room() {
  while (entries_.size() >= std::max<std::size_t>(rules_.entries, 1)) {
    const auto& oldest = waiting_.empty() ? known_ : waiting_;
    erase(entries_.find(oldest.front()));
  }
}

Greylist::Entry& Greylist::add(const std::string& key, bool is_known, TimePoint now) {
  make_room();
  auto& order = is_known ? known_ : waiting_;
  auto& entry = entries_[key];
  entry.first = entry.last = now;
  entry.is_known = is_known;
  entry.place = order.insert(order.end(), key);
  return entry;
}

void Greylist::touch(Entry& entry, TimePoint now) {
  entry.last = now;
  known_.splice(known_.end(), known_, entry.place);
}

void Greylist::promote(Entries::iterator at, TimePoint now) {
  const auto key = at->first;
  const auto first = at->second.first;
  erase(at);
  add(key, true, now).first = first;
}

Duration Greylist::check(const IpAddress& client, std::string_view sender,
                         std::string_view recipient, TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto network = network_of(client);
  const auto network_key = key_of("n " + network);
  auto trusted = entries_.find(network_key);
  if (trusted != entries_.end() && is_over(trusted->second, now)) {
    erase(trusted);
    trusted = entries_.end();
  }
  if (trusted != entries_.end() && rules_.successes > 0 &&
      trusted->second.successes >= rules_.successes) {
    touch(trusted->second, now);
    return Duration(0);
  }
  const auto key = key_of("t " + network + " " + sender_of(sender) + " " + ascii_lower(recipient));
  auto found = entries_.find(key);
  if (found != entries_.end() && is_over(found->second, now)) {
    erase(found);
    found = entries_.end();
  }
  if (found == entries_.end()) {
    if (const auto share = waiting_of_.find(network_key);
        share != waiting_of_.end() && share->second >= rules_.of_network)
      return rules_.delay;
    add(key, false, now).network = network_key;
    ++waiting_of_[network_key];
    return rules_.delay;
  }
  if (found->second.is_known) {
    touch(found->second, now);
    return Duration(0);
  }
  // A clock that was set back makes nobody wait for ever.
  const auto waited =
      std::max(Duration(0), std::chrono::duration_cast<Duration>(now - found->second.first));
  if (waited < rules_.delay)
    return rules_.delay - waited;
  promote(found, now);
  trusted = entries_.find(network_key);
  auto& account = trusted != entries_.end() ? trusted->second : add(network_key, true, now);
  touch(account, now);
  account.successes = std::min<std::uint32_t>(account.successes + 1, 1'000'000);
  return Duration(0);
}

// "w|k KEY FIRST LAST SUCCESSES NETWORK-KEY", the oldest first.
std::string Greylist::snapshot() const {
  const std::lock_guard lock(mutex_);
  std::string lines;
  for (const auto* order : {&known_, &waiting_})
    for (const auto& key : *order) {
      const auto& entry = entries_.at(key);
      lines.append(entry.is_known ? "k " : "w ").append(key);
      lines.append(" ").append(std::to_string(stamp(entry.first)));
      lines.append(" ").append(std::to_string(stamp(entry.last)));
      lines.append(" ").append(std::to_string(entry.successes));
      lines.append(" ").append(entry.network.empty() ? "-" : entry.network).append("\n");
    }
  return lines;
}

void Greylist::restore(std::string_view lines, TimePoint now) {
  const std::lock_guard lock(mutex_);
  for (const auto line : split(lines, '\n')) {
    const auto words = split(line, ' ');
    if (words.size() != 6 || (words[0] != "k" && words[0] != "w") || words[1].size() != 2 * kKey ||
        entries_.contains(std::string(words[1])))
      continue;
    const auto first = parse_unsigned(words[2]);
    const auto last = parse_unsigned(words[3]);
    const auto successes = parse_unsigned(words[4]);
    constexpr std::uint64_t kMostTime = std::uint64_t{1} << 53U;
    if (!first || !last || !successes || *first > kMostTime || *last > kMostTime ||
        *successes > 1'000'000 || entries_.size() >= rules_.entries)
      continue;
    auto& entry = add(std::string(words[1]), words[0] == "k", now);
    entry.first = std::min(now, TimePoint(Duration(static_cast<Duration::rep>(*first))));
    entry.last = std::min(now, TimePoint(Duration(static_cast<Duration::rep>(*last))));
    entry.successes = static_cast<std::uint32_t>(*successes);
    if (entry.is_known || words[5].size() != 2 * kKey)
      continue;
    entry.network = words[5];
    ++waiting_of_[entry.network];
  }
}

}  // namespace postrider::smtpd::filter
