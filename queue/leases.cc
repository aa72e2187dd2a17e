#include "queue/leases.h"

#include "base/assert.h"

#include <algorithm>

namespace postrider::queue {

namespace {

void add_to(std::unordered_map<std::int64_t, std::size_t>& counts, std::int64_t key, int sign) {
  auto [at, added] = counts.try_emplace(key, 0);
  at->second += static_cast<std::size_t>(sign);
  if (at->second == 0)
    counts.erase(at);
}

std::size_t count_of(const std::unordered_map<std::int64_t, std::size_t>& counts,
                     std::int64_t key) {
  const auto at = counts.find(key);
  return at == counts.end() ? 0 : at->second;
}

}  // namespace

bool Leased::holds(std::uint32_t recipient) const {
  return recipients.empty() || std::binary_search(recipients.begin(), recipients.end(), recipient);
}

std::size_t memory_of(const mail::Message& message) {
  constexpr std::size_t kOverhead = 1024, kPerRecipient = 96;
  return kOverhead + (message.content.bytes ? message.content.bytes->size() : 0) +
         message.envelope.recipients.size() * kPerRecipient;
}

void Leases::count(const Leased& leased, int sign) {
  auto& usage = leased.reason == Lease::Reason::fresh ? fresh_ : due_;
  usage.messages += static_cast<std::size_t>(sign);
  usage.bytes += static_cast<std::size_t>(sign) * memory_of(*leased.message);
  for (const auto domain : leased.domains)
    add_to(by_domain_, domain, sign);
  if (leased.site >= 0)
    add_to(by_site_, leased.site, sign);
}

void Leases::add(Leased leased) {
  count(leased, 1);
  const auto id = leased.message->id.value;
  const std::lock_guard lock(mutex_);
  const bool added = leased_.emplace(id, std::move(leased)).second;
  POSTRIDER_ASSERT(added);
}

Leases::Node Leases::take(mail::MessageId id) {
  Node node;
  {
    const std::lock_guard lock(mutex_);
    node = leased_.extract(id.value);
  }
  if (node)
    count(node.mapped(), -1);
  return node;
}

void Leases::put_back(Node node) {
  count(node.mapped(), 1);
  const std::lock_guard lock(mutex_);
  leased_.insert(std::move(node));
}

Leased* Leases::find(mail::MessageId id) {
  const auto at = leased_.find(id.value);
  return at == leased_.end() ? nullptr : &at->second;
}

std::size_t Leases::of_domain(std::int64_t domain) const {
  return count_of(by_domain_, domain);
}

std::size_t Leases::of_site(std::int64_t site) const {
  return count_of(by_site_, site);
}

bool Leases::is_leased(mail::MessageId id) const {
  const std::lock_guard lock(mutex_);
  return leased_.contains(id.value);
}

bool Leases::is_leased(mail::MessageId id, std::uint32_t recipient) const {
  const std::lock_guard lock(mutex_);
  const auto at = leased_.find(id.value);
  return at != leased_.end() && at->second.holds(recipient);
}

std::vector<mail::MessageId> Leases::ids() const {
  const std::lock_guard lock(mutex_);
  std::vector<mail::MessageId> ids;
  ids.reserve(leased_.size());
  for (const auto& entry : leased_)
    ids.push_back({entry.first});
  return ids;
}

std::size_t Leases::size() const {
  const std::lock_guard lock(mutex_);
  return leased_.size();
}

}  // namespace postrider::queue
