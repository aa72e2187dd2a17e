// Counting, loading one message, and the figures for `postrider status`.
#include "queue/codec.h"
#include "queue/listing.h"

namespace postrider::queue {

namespace {

constexpr std::int64_t kDeferred = 1, kHeld = 2;  // statuses in `tally`

}  // namespace

Result<void> Listing::count_on(Counting& counting, TimePoint wall) {
  auto counted = count(counting.filter, wall);
  if (!counted)
    return counted.error();
  counting.counted = *counted;
  counting.is_done = true;
  return {};
}

Result<std::vector<std::string>> Listing::dropped() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  Query query(dropped_);
  for (;;) {
    auto row = query.next();
    if (!row)
      return row.error().during("list dropped files");
    if (!*row)
      return names;
    names.emplace_back(query.text(0));
  }
}

Result<Changed> Listing::count(const Filter& filter, TimePoint wall) {
  constexpr std::size_t kPage = 1000;
  Changed counted;
  mail::MessageId after;
  for (;;) {
    auto page = list(filter, after, kPage, wall);
    if (!page)
      return page.error();
    for (const auto& message : *page) {
      ++counted.messages;
      counted.recipients += message.recipients.size();
    }
    if (page->size() < kPage)
      return counted;
    after = page->back().id;
  }
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
  Query query(attempts_);
  query.bind(id.value);
  for (;;) {
    auto row = query.next();
    if (!row)
      return row.error().during("load attempts");
    if (!*row)
      return attempts;
    Attempt attempt;
    attempt.when = TimePoint(Duration(query.integer(0)));
    attempt.recipient = static_cast<std::uint32_t>(query.integer(1));
    auto outcome = decode_outcome(query.blob(2));
    if (!outcome)
      continue;
    attempt.outcome = *std::move(outcome);
    attempts.push_back(std::move(attempt));
  }
}

Result<Totals> Listing::totals() {
  const std::lock_guard lock(mutex_);
  auto reading = Transaction::begin_reading(database_);
  if (!reading)
    return reading.error();
  Totals totals;
  const auto number = [](Query& query, int column) {
    return static_cast<std::uint64_t>(query.integer(column));
  };
  {
    Query query(totals_);
    for (;;) {
      auto row = query.next();
      if (!row)
        return row.error().during("count the queue");
      if (!*row)
        break;
      totals.messages += number(query, 1);
      totals.recipients += number(query, 2);
      totals.bytes += number(query, 3);
      if (query.integer(0) == kDeferred)
        totals.deferred = number(query, 1);
      if (query.integer(0) == kHeld)
        totals.held = number(query, 1);
    }
  }
  {
    Query query(totals_incoming_);
    for (;;) {
      auto row = query.next();
      if (!row)
        return row.error().during("count the queue");
      if (!*row)
        break;
      ++totals.messages;
      totals.bytes += number(query, 1);
      if (const auto message = decode_head({query.integer(0)}, query.blob(2)))
        totals.recipients += message->envelope.recipients.size();
    }
  }
  {
    Query query(damaged_);
    auto row = query.next();
    if (!row)
      return row.error().during("count the queue");
    totals.quarantined = number(query, 0);
  }
  totals.active = leases_.size();
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
