#include "queue/writer/queue_summary.h"

#include "queue/listed_reasons.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kSummedAtOnce = 5000;       // messages
constexpr std::size_t kRecipientsAtOnce = 20'000;  // but those of one message
constexpr std::size_t kMostUnheard = 2000;
constexpr std::size_t kMostPatterns = 20'000;  // remembered

// Without the name that the client gave itself, which it may change each time.
std::string_view client_of(std::string_view client) {
  const auto open = client.rfind('[');
  const auto close = client.rfind(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    return client;
  return client.substr(open + 1, close - open - 1);
}

}  // namespace

std::string_view encoded_reason(const WaitingEntry& entry, std::int64_t now) {
  const bool is_due_by_itself = entry.next_attempt < kExpireNow;
  if ((is_due_by_itself && entry.blocked_until > now) ||
      (entry.last.empty() && entry.site_failures > 0))
    return entry.site_last;
  return entry.last;
}

Result<void> QueueSummary::go_on(Summarizing& summarizing, const PreparedFilter& filter) {
  auto reading = reader_.begin();
  if (!reading)
    return reading.error();
  auto pauses = reader_.pauses();
  if (!pauses)
    return pauses.error();
  for (auto& row : *pauses)
    if (row.until > now_)
      pauses_.set(std::move(row));
  if (summarizing.after < 0)
    return begin(summarizing, filter);
  if (summarizing.candidates)
    return add_candidates(summarizing, filter);
  auto end = reader_.end_of_chunk(summarizing.after, kSummedAtOnce);
  if (!end)
    return end.error();
  if (auto done = add_range(summarizing, filter, {summarizing.after, *end}); !done)
    return done.error();
  summarizing.is_done = summarizing.after == kNever;
  return {};
}

// What has just arrived, and what is known of where the rest is.
Result<void> QueueSummary::begin(Summarizing& summarizing, const PreparedFilter& filter) {
  summarizing.after = 0;
  auto done = reader_.each_incoming({}, [&](const IncomingEntry& entry) {
    if (!filter.names(entry.id))
      return true;
    const auto message = decode_head(entry.id, entry.head);
    if (!message || !filter.matches(*message, leases_.is_leased(entry.id)))
      return true;
    bool is_counted = false;
    for (const auto& recipient : message->envelope.recipients) {
      if (!filter.matches(recipient))
        continue;
      const auto domain = mail::domain_of(recipient.address);
      const auto reason = summarizing.summary.by() == SummaryKey::reason
                              ? unheard(summarizing, domain, recipient.address)
                              : std::string_view();
      summarizing.summary.add({entry.id, message->received, static_cast<std::uint64_t>(entry.size),
                               domain, "", message->envelope.sender,
                               client_of(message->origin.client), reason});
      is_counted = true;
    }
    if (is_counted)
      summarizing.seen.push_back(entry.id);
    return true;
  });
  if (!done)
    return done.error();
  auto candidates = reader_.candidates(filter);
  if (!candidates)
    return candidates.error();
  summarizing.candidates = *std::move(candidates);
  return {};
}

Result<void> QueueSummary::add_candidates(Summarizing& summarizing, const PreparedFilter& filter) {
  const auto& candidates = *summarizing.candidates;
  const auto end = std::min(candidates.size(),
                            summarizing.next_candidate + static_cast<std::size_t>(kSummedAtOnce));
  for (; summarizing.next_candidate < end; ++summarizing.next_candidate) {
    const auto id = candidates[summarizing.next_candidate].value;
    if (auto done = add_range(summarizing, filter, {id - 1, id}); !done)
      return done.error();
  }
  summarizing.is_done = end == candidates.size();
  return {};
}

// Up to its end, or as far as was enough for once, which is then what summarizing.after says.
Result<void> QueueSummary::add_range(Summarizing& summarizing, const PreparedFilter& filter,
                                     IdRange range) {
  std::size_t recipients = 0;
  mail::MessageId current;
  bool is_cut = false;
  Result<void> added;
  auto done = reader_.each_waiting(filter, range, now_, [&](const WaitingEntry& entry) {
    if (entry.id != current) {
      is_cut = recipients >= kRecipientsAtOnce;
      if (is_cut)
        return false;
      current = entry.id;
    }
    ++recipients;
    if (std::binary_search(summarizing.seen.begin(), summarizing.seen.end(), entry.id))
      return true;
    added = add_waiting(summarizing, entry);
    return added.has_value();
  });
  summarizing.after = is_cut ? current.value : range.to;
  return done ? added : done;
}

Result<void> QueueSummary::add_waiting(Summarizing& summarizing, const WaitingEntry& entry) {
  Summary::Item item;
  item.message = entry.id;
  item.received = TimePoint(Duration(entry.received));
  item.size = static_cast<std::uint64_t>(std::max<std::int64_t>(entry.size, 0));
  item.sender = entry.sender;
  std::string domain;
  if (is_next_hop(entry.domain))
    domain = mail::domain_of(entry.address);
  item.domain = domain.empty() ? entry.domain : domain;
  item.site = entry.site;
  if (summarizing.summary.by() == SummaryKey::reason)
    item.reason = reason_of(summarizing, entry);
  if (summarizing.summary.by() == SummaryKey::client) {
    if (client_of_ != entry.id) {
      const auto head = reader_.head(entry.id);
      if (!head)
        return head.error();
      client_ = client_of(client_in_head(*head));
      client_of_ = entry.id;
    }
    item.client = client_;
  }
  summarizing.summary.add(item);
  return {};
}

std::string_view QueueSummary::unheard(Summarizing& summarizing, std::string_view place,
                                       std::string_view address) {
  const std::string name(place);
  if (const auto known = summarizing.waits.find(name); known != summarizing.waits.end())
    return known->second;
  if (summarizing.unheard.size() < kMostUnheard)
    summarizing.unheard.try_emplace(name, is_next_hop(place) ? place : address);
  return {};
}

std::string_view QueueSummary::reason_of(Summarizing& summarizing,
                                         const WaitingEntry& entry) const {
  if (entry.state == RecipientState::queued && !leases_.is_leased(entry.id, entry.index) &&
      pauses_.find(entry.sender, entry.domain) != nullptr)
    return "paused by an administrator";
  const auto encoded = encoded_reason(entry, now_);
  const bool is_queued = entry.state == RecipientState::queued;
  if (encoded.empty() && is_queued)
    return unheard(summarizing, entry.domain, entry.address);
  if (encoded.empty())
    return entry.state == RecipientState::held ? "held by an administrator" : "";
  auto& patterns = summarizing.patterns;
  if (patterns.size() >= kMostPatterns)
    patterns.clear();
  const auto [known, is_new] = patterns.try_emplace(std::string(encoded));
  if (is_new) {
    const auto outcome = decode_outcome(encoded);
    known->second = outcome ? reason_pattern(outcome->reason()) : "";
  }
  if (is_queued && entry.next_attempt <= now_ && known->second.starts_with(kKeptForSender))
    return unheard(summarizing, entry.domain, entry.address);
  return known->second;
}

}  // namespace postrider::queue
