// Counting, loading one message, and the figures for `postrider status`.
#include "queue/row_codec.h"
#include "queue/writer/listing.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kQueued = 0, kDeferred = 1, kHeld = 2;  // statuses in `tally`
constexpr std::int64_t kActive = 3;                            // never there
constexpr std::int64_t kCountedAtOnce = 10'000;

std::uint64_t count_of(std::int64_t number) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(number, 0));
}

}  // namespace

Result<void> Listing::count_on(Counting& counting, TimePoint wall) {
  const std::lock_guard lock(mutex_);
  wall_ = wall;
  auto reading = Transaction::begin_reading(database_);
  if (!reading)
    return reading.error();
  const PreparedFilter filter(counting.filter, wall);
  if (counting.after < 0)
    return begin_count(counting, filter);
  auto end = end_of_chunk(counting.after, kCountedAtOnce);
  if (!end)
    return end.error();
  if (auto done = count_range(counting, filter, {counting.after, *end}); !done)
    return done.error();
  counting.after = *end;
  counting.is_done = *end == kNever;
  return {};
}

// All that is known without going through the queue.
Result<void> Listing::begin_count(Counting& counting, const PreparedFilter& filter) {
  counting.after = 0;
  if (auto done = count_incoming(counting, filter); !done)
    return done.error();
  counting.is_done = true;
  if (filter.asks_for_status_only())
    return count_by_status(counting);
  if (const auto domain = filter.only_domain())
    return count_of_domain(counting, *domain);
  auto candidates = find_candidates(filter, of_domain_);
  if (!candidates)
    return candidates.error().during("count the queue");
  counting.is_done = candidates->has_value();
  if (counting.is_done)
    for (const auto id : **candidates)
      if (auto done = count_range(counting, filter, {id.value - 1, id.value}); !done)
        return done.error();
  return {};
}

Result<void> Listing::count_incoming(Counting& counting, const PreparedFilter& filter) {
  auto done = Query(totals_incoming_).for_each([&](const Query& row) {
    const mail::MessageId id{row.integer(0)};
    if (!filter.names(id))
      return;
    const auto message = decode_head(id, row.blob(2));
    if (!message || !filter.matches(*message, leases_.is_leased(id)))
      return;
    const auto& recipients = message->envelope.recipients;
    const auto matching = std::count_if(recipients.begin(), recipients.end(),
                                        [&](const auto& each) { return filter.matches(each); });
    if (matching == 0)
      return;
    ++counting.counted.messages;
    counting.counted.recipients += static_cast<std::uint64_t>(matching);
    counting.seen.push_back(id);
  });
  return done ? done : done.error().during("count the queue");
}

// From the kept figures; what is in delivery's hands is looked at one by one.
Result<Listing::Tally> Listing::tally() {
  Tally tally;
  auto done = Query(totals_).for_each([&](const Query& row) {
    if (const auto status = row.integer(0); status >= 0 && status < kActive) {
      tally.messages[status] = row.integer(1);
      tally.recipients[status] = row.integer(2);
      tally.bytes += row.integer(3);
    }
  });
  if (!done)
    return done.error().during("count the queue");
  for (const auto id : leases_.ids()) {
    Query query(waiting_row_);
    query.bind(id.value);
    auto row = query.next();
    if (!row)
      return row.error().during("count the queue");
    if (!*row)
      continue;
    const auto alive = query.integer(0) + query.integer(1);
    const auto status = query.integer(0) == 0 ? kHeld : query.integer(2) != 0 ? kDeferred : kQueued;
    --tally.messages[status];
    tally.recipients[status] -= alive;
    ++tally.messages[kActive];
    tally.recipients[kActive] += alive;
  }
  return tally;
}

Result<void> Listing::count_by_status(Counting& counting) {
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

Result<void> Listing::count_of_domain(Counting& counting, const std::string& domain) {
  auto found = Query(count_of_domain_).bind_text(domain).rows([](const Query& row) {
    return row.integer(0);
  });
  if (!found)
    return found.error().during("count the queue");
  auto& messages = *found;
  counting.counted.recipients += messages.size();
  std::sort(messages.begin(), messages.end());
  counting.counted.messages +=
      static_cast<std::uint64_t>(std::unique(messages.begin(), messages.end()) - messages.begin());
  return {};
}

Result<void> Listing::count_range(Counting& counting, const PreparedFilter& filter, IdRange range) {
  auto& counted = filter.asks_for_recipients() ? count_recipients_ : count_messages_;
  Query query(counted.statement());
  counted.bind(query, filter, {range, now(wall_)});
  std::int64_t last = -1;
  auto done = query.for_each([&](const Query& row) {
    const mail::MessageId id{row.integer(0)};
    if (std::binary_search(counting.seen.begin(), counting.seen.end(), id))
      return;
    counting.counted.messages += id.value != last ? 1 : 0;
    counting.counted.recipients += static_cast<std::uint64_t>(row.integer(1));
    last = id.value;
  });
  return done ? done : done.error().during("count the queue");
}

Result<std::vector<std::string>> Listing::dropped() {
  const std::lock_guard lock(mutex_);
  auto names = Query(dropped_).rows([](const Query& row) { return std::string(row.text(0)); });
  return names ? names : names.error().during("list dropped files");
}

Result<std::shared_ptr<const mail::Message>> Listing::load(mail::MessageId id) {
  const std::lock_guard lock(mutex_);
  for (Statement* statement : {&load_incoming_, &load_, &load_incoming_}) {
    Query query(*statement);
    query.bind(id.value);
    auto row = query.next();
    if (!row)
      return row.error().during("load message");
    if (!*row)
      continue;
    auto message = decode_head(id, query.blob(0));
    if (!message)
      return message.error().during("load message");
    if (message->content.file.empty())
      message->content.bytes = std::make_shared<const std::string>(query.blob(1));
    return std::make_shared<const mail::Message>(*std::move(message));
  }
  return Error(Errc::not_found, "load message " + to_string(id));
}

Result<std::vector<Attempt>> Listing::attempts(mail::MessageId id) {
  const std::lock_guard lock(mutex_);
  std::vector<Attempt> attempts;
  auto done = Query(attempts_).bind(id.value).for_each([&](const Query& row) {
    auto outcome = decode_outcome(row.blob(2));
    if (outcome)
      attempts.push_back({TimePoint(Duration(row.integer(0))),
                          static_cast<std::uint32_t>(row.integer(1)), *std::move(outcome)});
  });
  if (!done)
    return done.error().during("load attempts");
  return attempts;
}

Result<Totals> Listing::totals() {
  const std::lock_guard lock(mutex_);
  auto reading = Transaction::begin_reading(database_);
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
  auto done = Query(totals_incoming_).for_each([&](const Query& row) {
    const mail::MessageId id{row.integer(0)};
    ++(leases_.is_leased(id) ? totals.active : totals.queued);
    totals.bytes += count_of(row.integer(1));
    if (const auto message = decode_head(id, row.blob(2)))
      totals.recipients += message->envelope.recipients.size();
  });
  if (!done)
    return done.error().during("count the queue");
  auto damaged = Query(damaged_).first(0);
  if (!damaged)
    return damaged.error().during("count the queue");
  totals.quarantined = count_of(*damaged);
  totals.messages = totals.active + totals.queued + totals.deferred + totals.held;
  Query query(oldest_);
  auto row = query.next();
  if (!row)
    return row.error().during("count the queue");
  if (*row && !query.is_null(0))
    totals.oldest = TimePoint(Duration(query.integer(0) / 1000));
  return totals;
}

Result<std::vector<SiteState>> Listing::sites() {
  const std::lock_guard lock(mutex_);
  std::vector<SiteState> sites;
  Query query(sites_);
  for (;;) {
    auto row = query.next();
    if (!row)
      return row.error().during("list sites");
    if (!*row)
      return sites;
    SiteState site;
    site.site = query.text(0);
    if (query.integer(1) > 0)
      site.blocked_until = time_.to_wall(TimePoint(Duration(query.integer(1))));
    site.failures = static_cast<std::uint32_t>(query.integer(2));
    site.since = TimePoint(Duration(query.integer(3)));
    if (auto last = decode_outcome(query.blob(4)))
      site.last = *std::move(last);
    Query count(site_recipients_);
    auto counted = count.bind_text(site.site).next();
    if (!counted)
      return counted.error().during("list sites");
    site.recipients = static_cast<std::uint64_t>(count.integer(0));
    sites.push_back(std::move(site));
  }
}

}  // namespace postrider::queue
