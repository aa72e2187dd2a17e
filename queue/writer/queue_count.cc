#include "queue/writer/queue_count.h"

#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kQueued = 0, kDeferred = 1, kHeld = 2;  // statuses in `tally`
constexpr std::int64_t kActive = 3;                            // never there
constexpr std::int64_t kCountedAtOnce = 10'000;
constexpr std::int64_t kMicrosecondsOfMinute = 60'000'000;

std::uint64_t count_of(std::int64_t number) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(number, 0));
}

}  // namespace

Result<void> QueueCount::go_on(Counting& counting, const PreparedFilter& filter) {
  auto reading = reader_.begin();
  if (!reading)
    return reading.error();
  if (counting.after < 0)
    return begin(counting, filter);
  auto end = reader_.end_of_chunk(counting.after, kCountedAtOnce);
  if (!end)
    return end.error();
  if (auto done = count_range(counting, filter, {counting.after, *end}); !done)
    return done.error();
  counting.after = *end;
  counting.is_done = *end == kNever;
  return {};
}

// All that is known without going through the queue.
Result<void> QueueCount::begin(Counting& counting, const PreparedFilter& filter) {
  counting.after = 0;
  if (auto done = count_incoming(counting, filter); !done)
    return done.error();
  counting.is_done = true;
  if (filter.asks_for_status_only())
    return count_by_status(counting);
  if (const auto domain = filter.only_domain())
    return count_of_domain(counting, *domain);
  auto candidates = reader_.candidates(filter);
  if (!candidates)
    return candidates.error();
  counting.is_done = candidates->has_value();
  if (counting.is_done)
    for (const auto id : **candidates)
      if (auto done = count_range(counting, filter, {id.value - 1, id.value}); !done)
        return done.error();
  return {};
}

Result<void> QueueCount::count_incoming(Counting& counting, const PreparedFilter& filter) {
  return reader_.each_incoming({}, [&](const IncomingEntry& entry) {
    if (!filter.names(entry.id))
      return true;
    const auto message = decode_head(entry.id, entry.head);
    if (!message || !filter.matches(*message, leases_.is_leased(entry.id)))
      return true;
    const auto& recipients = message->envelope.recipients;
    const auto matching = std::count_if(recipients.begin(), recipients.end(),
                                        [&](const auto& each) { return filter.matches(each); });
    if (matching == 0)
      return true;
    ++counting.counted.messages;
    counting.counted.recipients += static_cast<std::uint64_t>(matching);
    counting.seen.push_back(entry.id);
    return true;
  });
}

// From the kept figures; what is in delivery's hands is looked at one by one.
Result<QueueCount::Tally> QueueCount::tally() {
  auto kept = reader_.tally();
  if (!kept)
    return kept.error();
  Tally tally;
  for (const auto& entry : *kept)
    if (entry.status >= 0 && entry.status < kActive) {
      tally.messages[entry.status] = entry.messages;
      tally.recipients[entry.status] = entry.recipients;
      tally.bytes += entry.bytes;
    }
  for (const auto id : leases_.ids()) {
    auto counts = reader_.counts_of(id);
    if (!counts)
      return counts.error();
    if (!counts->has_value())
      continue;
    const auto& message = **counts;
    const auto alive = message.waiting + message.held;
    const auto status = message.waiting == 0 ? kHeld : message.tried ? kDeferred : kQueued;
    --tally.messages[status];
    tally.recipients[status] -= alive;
    ++tally.messages[kActive];
    tally.recipients[kActive] += alive;
  }
  return tally;
}

Result<void> QueueCount::count_by_status(Counting& counting) {
  const auto tally = this->tally();
  if (!tally)
    return tally.error();
  const char* const names[] = {"queued", "deferred", "held", "active"};
  for (std::size_t i = 0; i < std::size(names); ++i) {
    if (counting.filter.status && *counting.filter.status != names[i])
      continue;
    counting.counted.messages += count_of(tally->messages[i]);
    counting.counted.recipients += count_of(tally->recipients[i]);
  }
  return {};
}

Result<void> QueueCount::count_of_domain(Counting& counting, const std::string& domain) {
  auto messages = reader_.messages_of_domain(domain);
  if (!messages)
    return messages.error();
  // Those that are landing have some of their rows, and were counted where they landed.
  std::erase_if(*messages, [&](std::int64_t id) {
    return std::binary_search(counting.seen.begin(), counting.seen.end(), mail::MessageId{id});
  });
  counting.counted.recipients += messages->size();
  std::sort(messages->begin(), messages->end());
  counting.counted.messages += static_cast<std::uint64_t>(
      std::unique(messages->begin(), messages->end()) - messages->begin());
  return {};
}

Result<void> QueueCount::count_range(Counting& counting, const PreparedFilter& filter,
                                     IdRange range) {
  std::int64_t last = -1;
  return reader_.count_waiting(
      filter, range, now_, [&](mail::MessageId id, std::int64_t recipients) {
        if (std::binary_search(counting.seen.begin(), counting.seen.end(), id))
          return;
        counting.counted.messages += id.value != last ? 1 : 0;
        counting.counted.recipients += static_cast<std::uint64_t>(recipients);
        last = id.value;
      });
}

// Of waiting mail; a minute has as many rows as it has, so this costs what the longest wait is.
Result<void> QueueCount::count_ages(Totals& totals, std::int64_t minute) {
  const auto arrived = reader_.arrived();
  if (!arrived)
    return arrived.error();
  for (const auto& entry : *arrived)
    totals.ages[Summary::age_of(minute - entry.minute)] += count_of(entry.messages);
  return {};
}

Result<Totals> QueueCount::totals(TimePoint wall) {
  const auto minute = std::chrono::floor<std::chrono::minutes>(wall.time_since_epoch()).count();
  auto reading = reader_.begin();
  if (!reading)
    return reading.error();
  const auto tally = this->tally();
  if (!tally)
    return tally.error();
  Totals totals;
  for (const auto recipients : tally->recipients)
    totals.recipients += count_of(recipients);
  totals.queued = count_of(tally->messages[kQueued]);
  totals.deferred = count_of(tally->messages[kDeferred]);
  totals.held = count_of(tally->messages[kHeld]);
  totals.active = count_of(tally->messages[kActive]);
  totals.bytes = count_of(tally->bytes);
  auto done = reader_.each_incoming({}, [&](const IncomingEntry& entry) {
    ++(leases_.is_leased(entry.id) ? totals.active : totals.queued);
    totals.bytes += count_of(entry.size);
    ++totals.ages[Summary::age_of(minute - entry.id.value / kMicrosecondsOfMinute)];
    if (const auto message = decode_head(entry.id, entry.head))
      totals.recipients += message->envelope.recipients.size();
    return true;
  });
  if (!done)
    return done.error();
  if (auto counted = count_ages(totals, minute); !counted)
    return counted.error();
  auto damaged = reader_.damaged();
  auto oldest = reader_.oldest();
  if (!damaged || !oldest)
    return (damaged ? oldest : damaged).error();
  totals.quarantined = count_of(*damaged);
  totals.messages = totals.active + totals.queued + totals.deferred + totals.held;
  if (*oldest != 0)
    totals.oldest = TimePoint(Duration(*oldest / 1000));
  return totals;
}

}  // namespace postrider::queue
