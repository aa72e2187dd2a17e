#include "queue/writer/listing.h"

#include "queue/row_codec.h"
#include "queue/store/schema.h"
#include "queue/store/sql_names.h"

#include <algorithm>

namespace postrider::queue {

namespace {

// Messages looked at in one read transaction, and before a reader that left is noticed.
constexpr std::int64_t kChunk = 5000;
// In one page, but those of one message are never divided.
constexpr std::size_t kMostRecipients = 2000;

std::size_t recipients_of(const std::vector<ListedMessage>& messages) {
  std::size_t recipients = 0;
  for (const auto& message : messages)
    recipients += message.recipients.size();
  return recipients;
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
  auto database = Database::open(path, Database::Mode::reader, vfs);
  if (!database)
    return database.error();
  database_ = *std::move(database);
  if (auto done = configure_reader(database_); !done)
    return done.error();
  if (auto done = add_filter_functions(database_, leases_); !done)
    return done.error();
  if (auto done = waiting_.prepare_recipients(
          database_,
          "SELECT m.id, m.received, m.expires, m.size, m.waiting, m.tried, m.sender,"
          " r.idx, r.address, r.state, r.attempts, r.next_attempt, r.last,"
          " d.name, s.name, s.blocked_until, s.last, s.failures",
          " ORDER BY m.id, r.idx");
      !done)
    return done.error();
  if (auto done = count_messages_.prepare_messages(database_, "SELECT m.id, m.waiting + m.held");
      !done)
    return done.error();
  if (auto done = count_recipients_.prepare_recipients(database_, "SELECT m.id, 1"); !done)
    return done.error();
  return prepare_all(
      database_,
      {
          {incoming_, "SELECT id, size, head FROM incoming WHERE id > ? AND id <= ? ORDER BY id"},
          {head_, "SELECT head FROM message WHERE id = ?"},
          {of_domain_, kMessagesOfDomain},
          {count_of_domain_,
           "SELECT message FROM recipient INDEXED BY recipient_due"
           " WHERE domain = (SELECT id FROM domain WHERE name = ?) AND state < {ended}"},
          {waiting_row_, "SELECT waiting, held, tried FROM message WHERE id = ?"},
          {chunk_end_, "SELECT id FROM message WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"},
          {load_,
           "SELECT m.head, b.data FROM message m LEFT JOIN body b ON b.id = m.id WHERE m.id = ?"},
          {load_incoming_, "SELECT head, body FROM incoming WHERE id = ?"},
          {attempts_, "SELECT at, recipient, outcome FROM attempt WHERE message = ? ORDER BY seq"},
          {sites_,
           "SELECT name, blocked_until, failures, since, last FROM site"
           " WHERE failures > 0 OR blocked_until > 0 ORDER BY name"},
          {totals_, "SELECT status, messages, recipients, bytes FROM tally"},
          {totals_incoming_, "SELECT id, size, head FROM incoming"},
          {damaged_, "SELECT count(*) FROM message INDEXED BY message_damaged WHERE damaged = 1"},
          {dropped_, "SELECT name FROM dropped"},
          {site_recipients_,
           "SELECT total(d.recipients) FROM domain d WHERE d.site ="
           " (SELECT id FROM site WHERE name = ?)"},
          {oldest_,
           "SELECT min(id) FROM (SELECT min(id) AS id FROM incoming"
           " UNION ALL SELECT min(id) FROM message)"},
      });
}

void Listing::close() {
  const std::lock_guard lock(mutex_);
  for (auto* statement : {&waiting_, &count_messages_, &count_recipients_})
    *statement = FilterStatement();
  for (Statement* statement :
       {&incoming_, &head_, &of_domain_, &chunk_end_, &load_, &load_incoming_, &attempts_, &sites_,
        &count_of_domain_, &waiting_row_, &totals_, &totals_incoming_, &oldest_, &damaged_,
        &dropped_, &site_recipients_})
    *statement = Statement();
  database_ = Database();
}

Result<ListedPage> Listing::list(const Filter& filter, mail::MessageId after, std::size_t most,
                                 TimePoint wall) {
  const std::lock_guard lock(mutex_);
  wall_ = wall;
  const PreparedFilter prepared(filter, wall);
  // Incoming first: what moves to `message` in between is then seen twice rather than never.
  std::vector<ListedMessage> fresh;
  if (auto done = list_incoming(prepared, {after.value}, most, fresh); !done)
    return done.error();
  const bool has_all_fresh = fresh.size() < most && recipients_of(fresh) < kMostRecipients;
  ListedPage page;
  auto came_to = list_all_waiting(prepared, after.value, most, page.messages);
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
Result<std::int64_t> Listing::list_all_waiting(const PreparedFilter& filter, std::int64_t after,
                                               std::size_t most,
                                               std::vector<ListedMessage>& listed) {
  const auto is_full = [&] {
    return listed.size() >= most || recipients_of(listed) >= kMostRecipients;
  };
  auto candidates = find_candidates(filter, of_domain_);
  if (!candidates)
    return candidates.error().during("list the queue");
  if (candidates->has_value()) {
    for (const auto id : **candidates) {
      if (id.value <= after)
        continue;
      if (is_full())
        return listed.back().id.value;
      if (auto done = list_waiting(filter, {id.value - 1, id.value}, most, listed); !done)
        return done.error();
    }
    return kNever;
  }
  auto end = end_of_chunk(after, kChunk);
  if (!end)
    return end.error();
  if (auto done = list_waiting(filter, {after, *end}, most, listed); !done)
    return done.error();
  return is_full() ? listed.back().id.value : *end;
}

Result<std::int64_t> Listing::end_of_chunk(std::int64_t after, std::int64_t chunk) {
  return Query(chunk_end_).bind(after).bind(chunk - 1).first(kNever);
}

Result<void> Listing::list_incoming(const PreparedFilter& filter, IdRange range, std::size_t most,
                                    std::vector<ListedMessage>& listed) {
  Query query(incoming_);
  query.bind(range.after).bind(range.to);
  std::size_t recipients = 0;
  while (listed.size() < most && recipients < kMostRecipients) {
    auto row = query.next();
    if (!row)
      return row.error().during("list the queue");
    if (!*row)
      return {};
    const mail::MessageId id{query.integer(0)};
    if (!filter.names(id))
      continue;
    const bool is_leased = leases_.is_leased(id);
    auto message = decode_head(id, query.blob(2));
    if (!message || !filter.matches(*message, is_leased))
      continue;
    ListedMessage entry;
    entry.id = id;
    entry.received = message->received;
    entry.expires = message->received + Duration(lifetime_.load());
    entry.size = static_cast<std::uint64_t>(query.integer(1));
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
    recipients += entry.recipients.size();
    if (!entry.recipients.empty())
      listed.push_back(std::move(entry));
  }
  return {};
}

Result<void> Listing::list_waiting(const PreparedFilter& filter, IdRange range, std::size_t most,
                                   std::vector<ListedMessage>& listed) {
  Query query(waiting_.statement());
  waiting_.bind(query, filter, {range, now(wall_)});
  std::size_t recipients = recipients_of(listed);
  for (;; ++recipients) {
    auto row = query.next();
    if (!row)
      return row.error().during("list the queue");
    if (!*row)
      return {};
    if (listed.empty() || listed.back().id.value != query.integer(0)) {
      if (listed.size() == most || recipients >= kMostRecipients)
        return {};
      auto message = read_message(query);
      if (!message)
        return message.error().during("list the queue");
      listed.push_back(*std::move(message));
    }
    listed.back().recipients.push_back(read_recipient(query, listed.back()));
  }
}

// The head is as long as all recipients together: it is read once, not with each of them.
Result<ListedMessage> Listing::read_message(Query& query) {
  ListedMessage entry;
  entry.id = {query.integer(0)};
  entry.received = TimePoint(Duration(query.integer(1)));
  const auto expires = query.integer(2);
  if (expires != kNever)
    entry.expires = time_.to_wall(TimePoint(Duration(expires)));
  entry.size = static_cast<std::uint64_t>(query.integer(3));
  entry.sender = query.text(6);
  Query stored(head_);
  const auto row = stored.bind(entry.id.value).next();
  if (!row)
    return row.error();
  if (*row)
    if (auto head = decode_head(entry.id, stored.blob(0)))
      entry.origin = head->origin;
  entry.status = leases_.is_leased(entry.id) ? "active"
                 : query.integer(4) == 0     ? "held"
                 : query.integer(5) != 0     ? "deferred"
                                             : "queued";
  return entry;
}

ListedRecipient Listing::read_recipient(Query& query, const ListedMessage& message) const {
  ListedRecipient recipient;
  recipient.index = static_cast<std::uint32_t>(query.integer(7));
  recipient.address = query.text(8);
  const auto state = query.integer(9);
  recipient.state = state < 0 ? RecipientState::held : static_cast<RecipientState>(state);
  recipient.attempts = static_cast<std::uint32_t>(query.integer(10));
  recipient.active = message.status == "active" && leases_.is_leased(message.id, recipient.index);
  recipient.last = read_outcome(query.blob(12));
  recipient.domain = query.text(13);
  recipient.site = query.text(14);
  auto next = query.integer(11);
  const auto blocked_until = query.integer(15);
  if (next != kNever && blocked_until > now(wall_)) {
    // What it waits for is its site, and so is the reason.
    next = std::max(next, blocked_until);
    recipient.last = read_outcome(query.blob(16));
  } else if (!recipient.last && query.integer(17) > 0) {
    recipient.last = read_outcome(query.blob(16));  // its turn has come, and is not over
  }
  if (next != kNever)
    recipient.next_attempt = time_.to_wall(TimePoint(Duration(next)));
  return recipient;
}

}  // namespace postrider::queue
