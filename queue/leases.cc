#include "queue/leases.h"

#include "base/assert.h"

#include <algorithm>
#include <type_traits>

namespace postrider::queue {

namespace {

// Each once.
template <class KeyOf>
auto keys_of(const Leased& leased, KeyOf key_of) {
  std::vector<std::invoke_result_t<KeyOf, const Leased::Place&>> keys;
  keys.reserve(leased.places.size());
  for (const auto& place : leased.places)
    keys.push_back(key_of(place));
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

template <class Counts>
void add_to(Counts& counts, const typename Counts::key_type& key, int sign) {
  auto [at, added] = counts.try_emplace(key, 0);
  at->second += static_cast<std::size_t>(sign);
  if (at->second == 0)
    counts.erase(at);
}

template <class Counts>
std::size_t count_of(const Counts& counts, const typename Counts::key_type& key) {
  const auto at = counts.find(key);
  return at == counts.end() ? 0 : at->second;
}

}  // namespace

bool Leased::holds(std::uint32_t recipient) const {
  if (reason == Lease::Reason::delay_notice)
    return false;
  return recipients.empty() || std::binary_search(recipients.begin(), recipients.end(), recipient);
}

bool Leased::is_wanted_again(std::uint32_t recipient) const {
  return std::binary_search(again.begin(), again.end(), recipient);
}

void Leased::want_again(std::uint32_t recipient) {
  const auto at = std::lower_bound(again.begin(), again.end(), recipient);
  if (at == again.end() || *at != recipient)
    again.insert(at, recipient);
}

std::size_t memory_of(const mail::Message& message) {
  constexpr std::size_t kOverhead = 1024, kPerRecipient = 96;
  return kOverhead + (message.content.bytes ? message.content.bytes->size() : 0) +
         message.envelope.recipients.size() * kPerRecipient;
}

// The parts of a large message share it. Called while this one is not among the others.
std::size_t Leases::cost_of(const Leased& leased) const {
  constexpr std::size_t kOverhead = 1024, kPerRecipient = 320;
  const auto& message = *leased.message;
  if (!is_large(message) || leased.recipients.empty())
    return memory_of(message);
  const auto shared = leased_.contains(message.id.value) ? 0 : memory_of(message);
  return shared + kOverhead + leased.recipients.size() * kPerRecipient;
}

void Leases::count(const Leased& leased, int sign) {
  const auto bytes = cost_of(leased);
  const auto add = [&](Usage& usage) {
    usage.messages += static_cast<std::size_t>(sign);
    usage.bytes = sign > 0 ? usage.bytes + bytes : usage.bytes - std::min(usage.bytes, bytes);
  };
  if (leased.reason == Lease::Reason::fresh) {
    add(fresh_);
    const auto its = fresh_by_lane_.try_emplace(leased.lane).first;
    add(its->second);
    if (its->second.messages == 0)
      fresh_by_lane_.erase(its);
  } else {
    add(due_);
    if (leased.reason != Lease::Reason::due)
      notices_ += static_cast<std::size_t>(sign);
  }
  if (leased.landed)
    count_deadline(leased, sign);
  using Place = Leased::Place;
  for (const auto domain : keys_of(leased, [](const Place& place) { return place.domain; }))
    add_to(by_domain_, domain, sign);
  for (const auto site : keys_of(leased, [](const Place& place) { return place.site; }))
    add_to(by_site_, site, sign);
  for (const auto& lane :
       keys_of(leased, [](const Place& place) { return std::pair(place.domain, place.lane); }))
    add_to(by_lane_, lane, sign);
}

void Leases::count_deadline(const Leased& leased, int sign) {
  if (leased.deadline == kNoDeadline)
    return;
  const std::pair entry(leased.deadline, leased.message->id.value);
  if (sign > 0)
    landed_.insert(entry);
  else
    landed_.erase(entry);
}

void Leases::set_landed(Leased& leased, bool landed) {
  if (std::exchange(leased.landed, landed) != landed)
    count_deadline(leased, landed ? 1 : -1);
}

bool Leases::is_being_told(mail::MessageId id) const {
  const auto [first, last] = leased_.equal_range(id.value);
  return std::any_of(first, last, [](const auto& one) {
    return one.second.reason == Lease::Reason::delay_notice;
  });
}

Leased* Leases::first_landed(std::int64_t due) {
  return landed_.empty() || landed_.begin()->first > due ? nullptr
                                                         : find({landed_.begin()->second});
}

std::int64_t Leases::next_landed() const {
  return landed_.empty() ? kNoDeadline : landed_.begin()->first;
}

void Leases::add(Leased leased) {
  POSTRIDER_ASSERT(find(leased.message->id, leased.number) == nullptr);
  count(leased, 1);
  const auto id = leased.message->id.value;
  const std::lock_guard lock(mutex_);
  messages_ += leased_.contains(id) ? 0 : 1;
  leased_.emplace(id, std::move(leased));
}

Leases::Node Leases::take(mail::MessageId id, std::uint64_t number) {
  Node node;
  {
    const std::lock_guard lock(mutex_);
    const auto [first, last] = leased_.equal_range(id.value);
    const auto at =
        std::find_if(first, last, [&](const auto& one) { return one.second.number == number; });
    if (at != last)
      node = leased_.extract(at);
    if (node)
      messages_ -= leased_.contains(id.value) ? 0 : 1;
  }
  if (node)
    count(node.mapped(), -1);
  return node;
}

Leases::Node Leases::take_holder(mail::MessageId id, std::uint32_t recipient) {
  const auto* found = holder(id, recipient);
  return found == nullptr ? Node() : take(id, found->number);
}

void Leases::put_back(Node node) {
  count(node.mapped(), 1);
  const std::lock_guard lock(mutex_);
  messages_ += leased_.contains(node.key()) ? 0 : 1;
  leased_.insert(std::move(node));
}

Leased* Leases::find(mail::MessageId id) {
  const auto at = leased_.find(id.value);
  return at == leased_.end() ? nullptr : &at->second;
}

Leased* Leases::find(mail::MessageId id, std::uint64_t number) {
  const auto [first, last] = leased_.equal_range(id.value);
  const auto at =
      std::find_if(first, last, [&](const auto& one) { return one.second.number == number; });
  return at == last ? nullptr : &at->second;
}

Leased* Leases::holder(mail::MessageId id, std::uint32_t recipient) {
  const auto [first, last] = leased_.equal_range(id.value);
  const auto at =
      std::find_if(first, last, [&](const auto& one) { return one.second.holds(recipient); });
  return at == last ? nullptr : &at->second;
}

Leases::Usage Leases::fresh_of(std::uint64_t lane) const {
  const auto its = fresh_by_lane_.find(lane);
  return its == fresh_by_lane_.end() ? Usage() : its->second;
}

std::size_t Leases::of_domain(std::int64_t domain) const {
  return count_of(by_domain_, domain);
}

std::size_t Leases::of_site(std::int64_t site) const {
  return count_of(by_site_, site);
}

std::size_t Leases::of_lane(std::int64_t domain, std::int64_t lane) const {
  return count_of(by_lane_, {domain, lane});
}

std::unordered_map<std::int64_t, std::size_t> Leases::places_of(mail::MessageId id) const {
  std::unordered_map<std::int64_t, std::size_t> places;
  const auto [first, last] = leased_.equal_range(id.value);
  for (auto at = first; at != last; ++at)
    for (const auto& place : at->second.places)
      ++places[place.domain];
  return places;
}

void Leases::each(const std::function<void(const Leased&)>& visit) const {
  for (const auto& [id, leased] : leased_)
    visit(leased);
}

bool Leases::is_leased(mail::MessageId id) const {
  const std::lock_guard lock(mutex_);
  const auto [first, last] = leased_.equal_range(id.value);
  return std::any_of(first, last, [](const auto& one) {
    return one.second.reason != Lease::Reason::delay_notice;
  });
}

bool Leases::is_leased(mail::MessageId id, std::uint32_t recipient) const {
  const std::lock_guard lock(mutex_);
  const auto [first, last] = leased_.equal_range(id.value);
  return std::any_of(first, last, [&](const auto& one) { return one.second.holds(recipient); });
}

std::vector<mail::MessageId> Leases::ids() const {
  const std::lock_guard lock(mutex_);
  std::vector<mail::MessageId> ids;
  ids.reserve(messages_);
  for (const auto& entry : leased_)
    if (ids.empty() || ids.back().value != entry.first)  // those of one message stand together
      ids.push_back({entry.first});
  return ids;
}

std::size_t Leases::messages() const {
  const std::lock_guard lock(mutex_);
  return messages_;
}

}  // namespace postrider::queue
