#include "queue/ledger/deferring.h"

#include "queue/ledger/fact_lines.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::size_t kAPiece = 500;  // recipients that are looked at
constexpr std::size_t kMostWalked = 20'000;

}  // namespace

Result<void> Deferring::opened() {
  walks_.clear();
  walked_.clear();
  return begin_all();
}

Result<void> Deferring::begin_all() {
  auto sites = state_.store->destinations().troubled_sites();
  if (!sites)
    return sites.error();
  for (const auto site : *sites)
    if (auto done = begin_site(site); !done)
      return done.error();
  return {};
}

Result<void> Deferring::begin_site(std::int64_t site) {
  auto domains = state_.store->destinations().domains_of(site);
  if (!domains)
    return domains.error();
  for (const auto domain : *domains)
    begin_domain(domain);
  return {};
}

void Deferring::begin_domain(std::int64_t domain) {
  const auto is_same = [&](const Walk& walk) { return walk.domain == domain; };
  if (std::any_of(walks_.begin(), walks_.end(), is_same))
    return;
  Walk& walk = walks_.emplace_back();
  walk.domain = domain;
  walk.begun = state_.now();
  if (const auto walked = walked_.find(domain); walked != walked_.end())
    walk.after.place.next_attempt = walked->second;
  walk.next = walk.after;
}

Result<void> Deferring::go_on(Effects& effects) {
  std::size_t seen = 0;
  for (auto& walk : walks_) {
    if (seen >= kAPiece)
      break;
    if (walk.is_done)
      continue;
    auto looked = walk_on(walk, kAPiece - seen, effects);
    if (!looked)
      return looked.error().during("mark what waits for a site");
    seen += *looked + 1;
  }
  return {};
}

// Returns how many recipients it has looked at.
Result<std::size_t> Deferring::walk_on(Walk& walk, std::size_t most, Effects& effects) {
  auto in_trouble = state_.store->destinations().is_in_trouble(walk.domain);
  if (!in_trouble)
    return in_trouble.error();
  if (!*in_trouble) {
    walk.is_done = walk.is_over = true;
    return std::size_t{0};
  }
  auto waiting = state_.store->messages().queued_in(walk.domain, walk.after.place, most);
  if (!waiting) {
    walk.is_broken = is_damage(waiting.error());
    return waiting.error();
  }
  for (const auto& entry : *waiting)
    if (auto done = mark(walk, entry, effects); !done)
      return done.error();
  if (!waiting->empty())
    walk.next.place = waiting->back().place;
  walk.is_done = waiting->size() < most;
  return waiting->size();
}

// What delivery has in hand is marked when that gives it back.
Result<void> Deferring::mark(Walk& walk, const QueuedEntry& entry, Effects& effects) {
  const auto id = entry.place.id;
  if (damaged_.is_passed_over(id) || state_.leases.is_leased(id, entry.place.index))
    return {};
  // Tried before, or kept for its sender: that is why it waits.
  if (entry.place.next_attempt > state_.now())
    return {};
  if (walk.next.marked != id) {
    auto marked = state_.store->messages().mark_tried(id);
    if (!marked)
      return is_damage(marked.error()) ? damaged_.pass_over(id, marked.error()) : marked.error();
    if (!*marked)
      return {};
    walk.next.marked = id;
  }
  ++effects.counted.untried;
  if (!is_wanted())
    return {};
  if (auto done = look_at(id); !done)
    return done;
  return state(seen_, entry.address, walk.domain, effects);
}

// Recipients of one message that wait for the same time follow each other.
Result<void> Deferring::look_at(mail::MessageId id) {
  if (seen_.id == id)
    return {};
  auto head = state_.store->messages().load_head(id);
  if (!head)
    return head.error();
  auto sender = state_.store->messages().sender(id);
  if (!sender)
    return sender.error();
  seen_ = *head ? **std::move(head) : mail::Message();
  seen_.id = id;
  seen_.envelope.sender = *std::move(sender);
  seen_.envelope.recipients = {};
  return {};
}

void Deferring::committed() {
  for (auto& walk : walks_) {
    walk.after = walk.next;
    if (!walk.is_done || walk.is_over)
      continue;
    if (walked_.size() >= kMostWalked)
      walked_.clear();
    walked_[walk.domain] = walk.begun;
  }
  std::erase_if(walks_, [](const Walk& walk) { return walk.is_done; });
}

void Deferring::start_over() {
  for (auto& walk : walks_) {
    walk.next = walk.after;
    walk.is_done = walk.is_over = walk.is_broken;
  }
}

Result<bool> Deferring::is_in_trouble(const std::string& address) {
  return is_in_trouble_at(mail::domain_of(address));
}

Result<bool> Deferring::is_in_trouble_at(const std::string& name) {
  if (!state_.store->destinations().has_blocked_sites())
    return false;
  auto domain = state_.store->destinations().domain_id(name);
  if (!domain)
    return domain.error();
  return state_.store->destinations().is_in_trouble(*domain);
}

Result<bool> Deferring::concerns(const mail::Message& message) {
  if (!state_.store->destinations().has_blocked_sites())
    return false;
  for (const auto& recipient : message.envelope.recipients)
    if (auto found = is_in_trouble(recipient.address); !found || !*found)
      return found;
  return true;
}

Result<bool> Deferring::concerns_any(const mail::Message& message,
                                     std::span<const std::uint32_t> indexes) {
  if (!state_.store->destinations().has_blocked_sites())
    return false;
  for (const auto index : indexes)
    if (index < message.envelope.recipients.size())
      if (auto found = is_in_trouble(message.envelope.recipients[index].address); !found || *found)
        return found;
  return false;
}

Result<void> Deferring::tell(const mail::Message& message, const std::string& recipient,
                             Effects& effects, const std::string& next_hop) {
  ++effects.counted.untried;
  if (!is_wanted())
    return {};
  auto domain = state_.store->destinations().domain_id(next_hop.empty() ? mail::domain_of(recipient)
                                                                        : next_hop);
  return domain ? state(message, recipient, *domain, effects) : domain.error();
}

// Nobody else will write about it before its site's next probe, which may be another message's.
Result<void> Deferring::state(const mail::Message& message, std::string_view recipient,
                              std::int64_t domain, Effects& effects) {
  auto trouble = state_.store->destinations().site_trouble(domain);
  if (!trouble)
    return trouble.error();
  const auto last = trouble->empty() ? Error(Errc::not_found, "") : decode_outcome(*trouble);
  const auto why = last ? *last : mail::Outcome();
  LogEvent event(Level::info, "deferred", to_string(message.id));
  event.add("from", message.envelope.sender).add("to", recipient).add("relay", "none");
  event.add("dsn", to_string(why.status)).add("reason", why.reason());
  if (!message.origin.trace_parent.empty())
    event.add("traceparent", message.origin.trace_parent);
  auto stated = state_fact(state_, event, message, effects);
  effects.told.push_back(std::move(event));
  return stated;
}

}  // namespace postrider::queue
