#include "queue/writer/listing.h"

#include "queue/listed_reasons.h"
#include "queue/row_codec.h"
#include "queue/writer/queue_count.h"
#include "queue/writer/queue_summary.h"

#include <algorithm>

namespace postrider::queue {

namespace {

// Messages looked at in one read transaction, and before a reader that left is noticed.
constexpr std::int64_t kChunk = 5000;
// In one page, but recipients of one message are never divided. 2,000 of them without long reasons.
constexpr std::size_t kMostOctets = 1U << 20U;
constexpr std::size_t kOfRecipient = 500;  // beside its texts

std::size_t octets_of(const ListedRecipient& recipient) {
  auto octets = kOfRecipient + recipient.address.size() + recipient.site.size();
  if (const auto& last = recipient.last)
    octets += last->text.size() + last->reply.text.size() + last->remote.size();
  return octets;
}

std::size_t octets_of(const ListedMessage& message) {
  std::size_t octets = 0;
  for (const auto& recipient : message.recipients)
    octets += octets_of(recipient);
  return octets;
}

std::size_t octets_of(const std::vector<ListedMessage>& messages) {
  std::size_t octets = 0;
  for (const auto& message : messages)
    octets += octets_of(message);
  return octets;
}

std::optional<mail::Outcome> read_outcome(std::string_view bytes) {
  if (bytes.empty())
    return std::nullopt;
  auto outcome = decode_outcome(bytes);
  return outcome ? std::optional(*std::move(outcome)) : std::nullopt;
}

}  // namespace

Result<void> Listing::open(const std::string& path, const char* vfs) {
  const std::lock_guard lock(mutex_);
  auto reader = open_reader(path, vfs, leases_);
  if (!reader)
    return reader.error();
  reader_ = *std::move(reader);
  return {};
}

void Listing::close() {
  const std::lock_guard lock(mutex_);
  reader_.reset();
}

template <class Ask>
auto Listing::with_reader(const char* step, Ask ask) -> decltype(ask(std::declval<Reader&>())) {
  const std::lock_guard lock(mutex_);
  if (reader_ == nullptr)
    return Error(Errc::storage, std::string(step) + ": the database is not open");
  auto answer = ask(*reader_);
  if (!answer)
    return answer.error().during(step);
  return answer;
}

Result<ListedPage> Listing::list(const Filter& filter, mail::MessageId after, std::size_t most,
                                 TimePoint wall) {
  const PreparedFilter prepared(filter, wall);
  return with_reader("list the queue", [&](Reader& reader) -> Result<ListedPage> {
    auto pauses = reader.pauses();
    if (!pauses)
      return pauses.error();
    pauses_.clear();
    for (auto& row : *pauses)
      if (row.until > queue_now(wall))
        pauses_.set(std::move(row));
    return list_page(reader, prepared, after, most, queue_now(wall));
  });
}

Result<ListedPage> Listing::list_page(Reader& reader, const PreparedFilter& filter,
                                      mail::MessageId after, std::size_t most,
                                      std::int64_t now) const {
  // Incoming first: what moves to `message` in between is then seen twice rather than never.
  std::vector<ListedMessage> fresh;
  if (auto done = list_incoming(reader, filter, after.value, most, fresh); !done)
    return done.error();
  const bool has_all_fresh = fresh.size() < most && octets_of(fresh) < kMostOctets;
  ListedPage page;
  auto came_to = list_all_waiting(reader, filter, after.value, most, now, page.messages);
  if (!came_to)
    return came_to.error();
  std::int64_t end = *came_to;
  if (!has_all_fresh)
    end = std::min(end, fresh.back().id.value);
  auto& listed = page.messages;
  std::move(fresh.begin(), fresh.end(), std::back_inserter(listed));
  std::erase_if(listed, [end](const auto& message) { return message.id.value > end; });
  const auto earlier = [](const auto& a, const auto& b) { return a.id < b.id; };
  const auto same = [](const auto& a, const auto& b) { return a.id == b.id; };
  std::sort(listed.begin(), listed.end(), earlier);
  listed.erase(std::unique(listed.begin(), listed.end(), same), listed.end());
  if (listed.size() > most) {
    listed.resize(most);
    end = listed.back().id.value;
  }
  page.after = {end};
  page.is_last = end == kNever;
  return page;
}

// Returns how far it came: kNever if nothing is left.
Result<std::int64_t> Listing::list_all_waiting(Reader& reader, const PreparedFilter& filter,
                                               std::int64_t after, std::size_t most,
                                               std::int64_t now,
                                               std::vector<ListedMessage>& listed) const {
  const auto is_full = [&] { return listed.size() >= most || octets_of(listed) >= kMostOctets; };
  auto candidates = reader.candidates(filter);
  if (!candidates)
    return candidates.error();
  if (candidates->has_value()) {
    for (const auto id : **candidates) {
      if (id.value <= after)
        continue;
      if (is_full())
        return listed.back().id.value;
      if (auto done = list_waiting(reader, filter, {id.value - 1, id.value}, most, now, listed);
          !done)
        return done.error();
    }
    return kNever;
  }
  auto end = reader.end_of_chunk(after, kChunk);
  if (!end)
    return end.error();
  if (auto done = list_waiting(reader, filter, {after, *end}, most, now, listed); !done)
    return done.error();
  return is_full() ? listed.back().id.value : *end;
}

// Nothing if it does not match.
std::optional<ListedMessage> Listing::incoming_message(const PreparedFilter& filter,
                                                       const IncomingEntry& stored) const {
  if (!filter.names(stored.id))
    return std::nullopt;
  const bool is_leased = leases_.is_leased(stored.id);
  const auto message = decode_head(stored.id, stored.head);
  if (!message || !filter.matches(*message, is_leased))
    return std::nullopt;
  ListedMessage entry;
  entry.id = stored.id;
  entry.received = message->received;
  entry.expires = message->received + Duration(lifetime_.load());
  entry.size = static_cast<std::uint64_t>(stored.size);
  entry.sender = message->envelope.sender;
  entry.origin = message->origin;
  entry.status = is_leased ? "active" : "queued";
  std::uint32_t index = 0;
  for (const auto& recipient : message->envelope.recipients) {
    if (filter.matches(recipient)) {
      ListedRecipient& each = entry.recipients.emplace_back();
      each.index = index;
      each.address = recipient.address;
      each.domain = mail::domain_of(recipient.address);
      each.active = is_leased;
      each.next_attempt = message->received;
    }
    ++index;
  }
  return entry.recipients.empty() ? std::nullopt : std::optional(std::move(entry));
}

Result<void> Listing::list_incoming(Reader& reader, const PreparedFilter& filter,
                                    std::int64_t after, std::size_t most,
                                    std::vector<ListedMessage>& listed) const {
  std::size_t octets = 0;
  const auto is_full = [&] { return listed.size() >= most || octets >= kMostOctets; };
  if (is_full())
    return {};
  return reader.each_incoming({after}, [&](const IncomingEntry& entry) {
    if (auto message = incoming_message(filter, entry)) {
      octets += octets_of(*message);
      listed.push_back(*std::move(message));
    }
    return !is_full();
  });
}

Result<void> Listing::list_waiting(Reader& reader, const PreparedFilter& filter, IdRange range,
                                   std::size_t most, std::int64_t now,
                                   std::vector<ListedMessage>& listed) const {
  std::size_t octets = octets_of(listed);
  Result<void> heads;
  auto done = reader.each_waiting(filter, range, now, [&](const WaitingEntry& entry) {
    if (listed.empty() || listed.back().id != entry.id) {
      if (listed.size() == most || octets >= kMostOctets)
        return false;
      auto message = waiting_message(reader, entry);
      if (!message) {
        heads = message.error();
        return false;
      }
      listed.push_back(*std::move(message));
    }
    const bool is_active =
        listed.back().status == "active" && leases_.is_leased(entry.id, entry.index);
    listed.back().recipients.push_back(recipient_of(entry, is_active, now));
    octets += octets_of(listed.back().recipients.back());
    return true;
  });
  return done ? heads : done;
}

// The head is as long as all recipients together: it is read once, not with each of them.
Result<ListedMessage> Listing::waiting_message(Reader& reader, const WaitingEntry& stored) const {
  ListedMessage entry;
  entry.id = stored.id;
  entry.received = TimePoint(Duration(stored.received));
  if (stored.expires != kNever)
    entry.expires = time_.to_wall(TimePoint(Duration(stored.expires)));
  entry.size = static_cast<std::uint64_t>(stored.size);
  entry.sender = stored.sender;
  const auto head = reader.head(stored.id);
  if (!head)
    return head.error();
  if (const auto message = decode_head(stored.id, *head))
    entry.origin = message->origin;
  entry.status = leases_.is_leased(stored.id) ? "active"
                 : stored.waiting == 0        ? "held"
                 : stored.tried               ? "deferred"
                                              : "queued";
  return entry;
}

ListedRecipient Listing::recipient_of(const WaitingEntry& stored, bool is_active,
                                      std::int64_t now) const {
  ListedRecipient recipient;
  recipient.index = stored.index;
  recipient.address = stored.address;
  recipient.state = stored.state;
  recipient.attempts = stored.attempts;
  recipient.active = is_active;
  recipient.domain = stored.domain;
  if (is_next_hop(stored.domain)) {
    recipient.next_hop = stored.domain;
    recipient.domain = mail::domain_of(stored.address);
  }
  recipient.site = stored.site;
  recipient.last = read_outcome(encoded_reason(stored, now));
  if (recipient.last && stored.next_attempt <= now && is_kept_for_sender(*recipient.last))
    recipient.last.reset();
  if (stored.next_attempt < kExpireNow) {
    // What it waits for may be its site.
    const auto blocked_until = stored.blocked_until > now ? stored.blocked_until : 0;
    recipient.next_attempt =
        time_.to_wall(TimePoint(Duration(std::max(stored.next_attempt, blocked_until))));
  }
  if (stored.state == RecipientState::queued && !is_active)
    if (const auto* pause = pauses_.find(stored.sender, stored.domain))
      add_pause(*pause, recipient);
  return recipient;
}

void Listing::add_pause(const PauseRow& pause, ListedRecipient& recipient) const {
  const auto until =
      pause.until == kNever ? TimePoint() : time_.to_wall(TimePoint(Duration(pause.until)));
  recipient.paused = true;
  recipient.next_attempt =
      until == TimePoint() ? TimePoint() : std::max(until, recipient.next_attempt);
  mail::Outcome why;
  why.stage = mail::Stage::admin;
  why.status = {4, 3, 2};
  why.text = describe(pause);
  recipient.last = std::move(why);
}

Result<void> Listing::summarize_on(Summarizing& summarizing, TimePoint wall) {
  const PreparedFilter filter(summarizing.filter, wall);
  return with_reader("sum up the queue", [&](Reader& reader) {
    return QueueSummary(reader, leases_, queue_now(wall)).go_on(summarizing, filter);
  });
}

Result<std::vector<Pause>> Listing::pauses(TimePoint wall) {
  const auto rows = with_reader("list pauses", [](Reader& reader) { return reader.pauses(); });
  if (!rows)
    return rows.error();
  std::vector<Pause> pauses;
  for (const auto& row : *rows) {
    if (row.until <= queue_now(wall))
      continue;
    Pause& pause = pauses.emplace_back();
    pause.of = row.of;
    pause.name = row.name;
    pause.since = TimePoint(Duration(row.since));
    if (row.until != kNever)
      pause.until = time_.to_wall(TimePoint(Duration(row.until)));
    pause.by = {row.uid, row.user};
  }
  return pauses;
}

Result<void> Listing::count_on(Counting& counting, TimePoint wall) {
  const PreparedFilter filter(counting.filter, wall);
  return with_reader("count the queue", [&](Reader& reader) {
    return QueueCount(reader, leases_, queue_now(wall)).go_on(counting, filter);
  });
}

Result<Totals> Listing::totals(TimePoint wall) {
  return with_reader("count the queue",
                     [&](Reader& reader) { return QueueCount(reader, leases_, 0).totals(wall); });
}

Result<std::shared_ptr<const mail::Message>> Listing::load(mail::MessageId id) {
  auto stored = with_reader("load message", [&](Reader& reader) { return reader.load(id); });
  if (!stored)
    return stored.error();
  if (!stored->has_value())
    return Error(Errc::not_found, "load message " + to_string(id));
  auto message = decode_head(id, (*stored)->head);
  if (!message)
    return message.error().during("load message");
  if (message->content.file.empty())
    message->content.bytes = std::make_shared<const std::string>(std::move((*stored)->content));
  return std::make_shared<const mail::Message>(*std::move(message));
}

Result<std::vector<Attempt>> Listing::attempts(mail::MessageId id) {
  const auto stored =
      with_reader("load attempts", [&](Reader& reader) { return reader.attempts(id); });
  if (!stored)
    return stored.error();
  std::vector<Attempt> attempts;
  for (const auto& entry : *stored)
    if (auto outcome = decode_outcome(entry.outcome))
      attempts.push_back({TimePoint(Duration(entry.when)), entry.recipient, *std::move(outcome)});
  return attempts;
}

Result<std::vector<SiteState>> Listing::sites() {
  const auto stored = with_reader("list sites", [](Reader& reader) { return reader.sites(); });
  if (!stored)
    return stored.error();
  std::vector<SiteState> sites;
  for (const auto& entry : *stored) {
    SiteState& site = sites.emplace_back();
    site.site = entry.name;
    if (entry.blocked_until > 0)
      site.blocked_until = time_.to_wall(TimePoint(Duration(entry.blocked_until)));
    site.failures = static_cast<std::uint32_t>(entry.failures);
    site.since = TimePoint(Duration(entry.since));
    if (auto last = decode_outcome(entry.last))
      site.last = *std::move(last);
    site.recipients = static_cast<std::uint64_t>(entry.recipients);
  }
  return sites;
}

Result<std::vector<std::string>> Listing::dropped() {
  return with_reader("list dropped files", [](Reader& reader) { return reader.dropped(); });
}

}  // namespace postrider::queue
