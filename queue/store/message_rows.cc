// The tables `message`, `body` and `recipient`.
#include "queue/checksum.h"
#include "queue/row_codec.h"
#include "queue/store/sqlite_store.h"
#include "queue/waiting_lane.h"

#include <algorithm>
#include <utility>

namespace postrider::queue {

namespace {

class SqliteMessages final : public MessageRows {
 public:
  SqliteMessages(Database& database, IncomingRows& incoming, AttemptRows& attempts,
                 Destinations& destinations)
      : database_(database),
        incoming_(incoming),
        attempts_(attempts),
        destinations_(destinations) {}

  Result<void> prepare(Database& database) {
    return prepare_all(
        database,
        {
            {insert_message_,
             "INSERT INTO message(id, deadline, expires, received, size, waiting, held, tried, "
             "delayed,"
             " logged, sender, head) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)"},
            {move_message_,
             "INSERT INTO message(id, deadline, expires, received, size, waiting, held, tried, "
             "delayed,"
             " logged, sender, head) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10, head"
             " FROM incoming WHERE id = ?1"},
            {insert_body_, "INSERT INTO body(id, data) VALUES(?, ?)"},
            {move_body_,
             "INSERT INTO body(id, data) SELECT id, body FROM incoming WHERE id = ? AND body "
             "NOTNULL"},
            {insert_recipient_,
             "INSERT INTO recipient(message, idx, domain, state, attempts, next_attempt, lane, "
             "address, last)"
             " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"},
            {insert_if_missing_,
             "INSERT OR IGNORE INTO recipient(message, idx, domain, state, attempts, next_attempt, "
             "lane, address, last)"
             " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"},
            {delete_recipient_, "DELETE FROM recipient WHERE message = ? AND idx = ?"},
            {delete_message_, "DELETE FROM message WHERE id = ?"},
            {delete_body_, "DELETE FROM body WHERE id = ?"},
            {delete_recipients_, "DELETE FROM recipient WHERE message = ?"},
            {message_row_,
             "SELECT deadline, expires, tried, delayed, logged, waiting, held FROM message WHERE "
             "id = ?"},
            {message_sender_, "SELECT sender FROM message WHERE id = ?"},
            {message_head_, "SELECT head FROM message WHERE id = ?"},
            {body_, "SELECT data FROM body WHERE id = ?"},
            {alive_,
             "SELECT idx, domain, state, attempts, next_attempt, last, lane FROM recipient"
             " WHERE message = ? AND state < {ended} ORDER BY idx"},
            {some_alive_,
             "SELECT idx, domain, state, attempts, next_attempt, last, lane FROM recipient"
             " WHERE message = ? AND idx >= ? AND state < {ended} ORDER BY idx LIMIT ?"},
            {due_,
             "SELECT idx, domain, state, attempts, next_attempt, last, lane FROM recipient"
             " WHERE message = ? AND domain = ? AND next_attempt = ? AND idx >= ?"
             " AND state < {ended} ORDER BY idx LIMIT ?"},
            {alive_one_,
             "SELECT idx, domain, state, attempts, next_attempt, last, lane FROM recipient"
             " WHERE message = ? AND idx = ? AND state < {ended}"},
            {count_alive_,
             "SELECT count(*), total(state = {held} OR state < 0), total(state = {bouncing})"
             " FROM recipient WHERE message = ? AND state < {ended}"},
            {update_recipient_,
             "UPDATE recipient SET state = ?, attempts = ?, next_attempt = ?, lane = ?, last = ?"
             " WHERE message = ? AND idx = ?"},
            {update_message_,
             "UPDATE message SET deadline = ?, expires = ?, waiting = ?, held = ?, tried = ?,"
             " delayed = ?, logged = ? WHERE id = ?"},
            {exists_,
             "SELECT EXISTS(SELECT 1 FROM incoming WHERE id = ?1)"
             " OR EXISTS(SELECT 1 FROM message WHERE id = ?1)"},
            {damaged_incoming_,
             "INSERT INTO message(id, deadline, expires, received, size, waiting, held, tried, "
             "delayed,"
             " logged, sender, head, damaged)"
             " SELECT id, {never}, {never}, id / 1000, size, 0, 1, 1, 1, 0, '',"
             " head, 1 FROM incoming WHERE id = ?"},
            {set_deadline_, "UPDATE message SET deadline = ? WHERE id = ?"},
            {mark_damaged_, "UPDATE message SET damaged = 1 WHERE id = ?"},
            {mark_tried_,
             "UPDATE message SET tried = 1 WHERE id = ? AND tried = 0 AND waiting > 0"},
            {untried_,
             "SELECT r.message, r.idx, r.next_attempt, r.domain, m.head FROM recipient r"
             " JOIN message m ON m.id = r.message"
             " WHERE (r.message, r.idx) > (?1, ?2) AND r.state = {queued} AND r.attempts = 0"
             " AND r.last NOTNULL ORDER BY r.message, r.idx LIMIT ?3"},
            {postpone_, "UPDATE recipient SET next_attempt = ?3 WHERE message = ?1 AND idx = ?2"},
            {queued_in_,
             "SELECT next_attempt, message, idx, address FROM recipient INDEXED BY recipient_due"
             " WHERE domain = ?1 AND state < {ended} AND next_attempt < {expire_now}"
             " AND next_attempt >= ?2 AND (next_attempt, message, idx) > (?2, ?3, ?4)"
             " ORDER BY next_attempt, message, idx LIMIT ?5"},
        });
  }

  Result<void> insert(const mail::Message& message, std::string_view head, const MessageRow& row,
                      std::vector<RecipientRow> recipients) override {
    if (auto done = find_domains(message, recipients); !done)
      return done.error();
    Query query(insert_message_);
    bind_message(query, message, row, counts_of(recipients));
    if (auto done = query.bind_blob(head).run(); !done)
      return done.error();
    if (message.content.bytes) {
      Query body(insert_body_);
      if (auto done = body.bind(message.id.value).bind_blob(*message.content.bytes).run(); !done)
        return done.error();
    }
    return insert_recipients(insert_recipient_, message.id, waiting_lane(message), recipients);
  }

  Result<void> move_in(const mail::Message& message, const MessageRow& row,
                       std::vector<RecipientRow> recipients) override {
    if (auto done = find_domains(message, recipients); !done)
      return done.error();
    if (auto done = move_content(message, row, counts_of(recipients)); !done)
      return done.error();
    return insert_recipients(insert_recipient_, message.id, waiting_lane(message), recipients);
  }

  Result<void> add_recipients(const mail::Message& message,
                              std::vector<RecipientRow> recipients) override {
    if (auto done = find_domains(message, recipients); !done)
      return done.error();
    return insert_recipients(insert_if_missing_, message.id, waiting_lane(message), recipients);
  }

  Result<void> move_rest(const mail::Message& message, const MessageRow& row) override {
    RecipientCounts counts;
    counts.waiting = row.waiting;
    counts.held = row.held;
    return move_content(message, row, counts);
  }

  Result<void> forget_recipients(mail::MessageId id) override {
    return Query(delete_recipients_).bind(id.value).run();
  }

  Result<void> quarantine_incoming(mail::MessageId id, const std::string& last) override {
    if (auto done = forget_recipients(id); !done)
      return done.error();
    if (auto done = Query(damaged_incoming_).bind(id.value).run(); !done)
      return done.error();
    if (auto done = Query(move_body_).bind(id.value).run(); !done)
      return done.error();
    auto domain = destinations_.domain_id("");
    if (!domain)
      return domain.error();
    RecipientRow unknown;
    unknown.domain = *domain;
    unknown.state = RecipientState::held;
    unknown.next_attempt = kNever;
    unknown.last = last;
    if (auto done = insert_recipients(insert_recipient_, id, kUnknownLane, {&unknown, 1}); !done)
      return done.error();
    return incoming_.remove(id);
  }

  Result<void> remove(mail::MessageId id) override {
    for (Statement* statement : {&delete_message_, &delete_body_, &delete_recipients_})
      if (auto done = Query(*statement).bind(id.value).run(); !done)
        return done.error();
    return attempts_.remove(id);
  }

  Result<std::optional<MessageRow>> load_row(mail::MessageId id) override {
    Query query(message_row_);
    query.bind(id.value);
    auto row = query.next();
    if (!row)
      return row.error();
    if (!*row)
      return std::optional<MessageRow>();
    MessageRow message;
    message.deadline = query.integer(0);
    message.expires = query.integer(1);
    message.tried = query.integer(2) != 0;
    message.delayed = (query.integer(3) & kDelayed) != 0;
    message.late_told = (query.integer(3) & kLateTold) != 0;
    message.logged = query.integer(4);
    message.waiting = query.integer(5);
    message.held = query.integer(6);
    return std::optional(message);
  }

  Result<std::optional<mail::Message>> load_head(mail::MessageId id) override {
    Query query(message_head_);
    query.bind(id.value);
    auto row = query.next();
    if (!row)
      return row.error();
    if (!*row)
      return std::optional<mail::Message>();
    auto message = decode_head(id, query.blob(0));
    return message ? std::optional(*std::move(message)) : std::nullopt;
  }

  Result<std::string> sender(mail::MessageId id) override {
    Query query(message_sender_);
    auto row = query.bind(id.value).next();
    if (!row)
      return row.error();
    return *row ? std::string(query.text(0)) : std::string();
  }

  Result<std::vector<RecipientRow>> load_alive(mail::MessageId id) override {
    return Query(alive_).bind(id.value).rows(read_recipient);
  }

  Result<std::vector<RecipientRow>> load_alive(mail::MessageId id, std::uint32_t from,
                                               std::size_t most) override {
    Query query(some_alive_);
    query.bind(id.value).bind(from).bind(static_cast<std::int64_t>(most));
    return query.rows(read_recipient);
  }

  Result<std::vector<RecipientRow>> load_due(mail::MessageId id, std::int64_t domain,
                                             std::int64_t time, std::uint32_t from,
                                             std::size_t most) override {
    Query query(due_);
    query.bind(id.value).bind(domain).bind(time).bind(from);
    query.bind(static_cast<std::int64_t>(most));
    return query.rows(read_recipient);
  }

  Result<std::vector<RecipientRow>> load_alive(mail::MessageId id,
                                               std::span<const std::uint32_t> indexes) override {
    std::vector<RecipientRow> alive;
    alive.reserve(indexes.size());
    for (const auto index : indexes) {
      Query query(alive_one_);
      auto row = query.bind(id.value).bind(index).next();
      if (!row)
        return row.error();
      if (*row)
        alive.push_back(read_recipient(query));
    }
    return alive;
  }

  Result<RecipientCounts> count_alive(mail::MessageId id) override {
    Query query(count_alive_);
    auto row = query.bind(id.value).next();
    if (!row)
      return row.error();
    RecipientCounts counts;
    counts.held = query.integer(1);
    counts.waiting = query.integer(0) - counts.held;
    counts.bouncing = query.integer(2);
    return counts;
  }

  Result<StoredMessage> load(mail::MessageId id) override {
    StoredMessage stored;
    Query head(message_head_);
    head.bind(id.value);
    auto row = head.next();
    if (!row)
      return row.error();
    if (!*row)
      return Error(Errc::not_found, "load message " + to_string(id));
    auto message = decode_head(id, head.blob(0), &stored.checksum);
    if (!message)
      return message.error();
    if (message->content.file.empty()) {
      Query body(body_);
      body.bind(id.value);
      auto found = body.next();
      if (!found)
        return found.error();
      if (!*found || body.blob(0).size() != message->content.size)
        return Error(Errc::corrupt, "load content: it has another size than when it was stored");
      if (stored.checksum && checksum_of(body.blob(0)) != *stored.checksum)
        return Error(Errc::corrupt, "load content: it is not what was stored (checksum)");
      message->content.bytes = std::make_shared<const std::string>(body.blob(0));
    }
    stored.message = std::make_shared<const mail::Message>(*std::move(message));
    return stored;
  }

  Result<void> mark_damaged(mail::MessageId id) override {
    return Query(mark_damaged_).bind(id.value).run();
  }

  Result<void> update_recipient(mail::MessageId id, const RecipientRow& row) override {
    Query query(update_recipient_);
    query.bind(static_cast<std::int64_t>(row.state)).bind(row.attempts).bind(row.next_attempt);
    query.bind(row.lane);
    if (row.last.empty())
      query.bind_null();
    else
      query.bind_blob(row.last);
    query.bind(id.value).bind(row.index);
    if (auto done = query.run(); !done)
      return done.error();
    if (row.is_alive() && row.next_attempt != kNever)
      return destinations_.touch(row.domain, row.next_attempt);
    return {};
  }

  Result<void> remove_recipient(mail::MessageId id, std::uint32_t index) override {
    return Query(delete_recipient_).bind(id.value).bind(index).run();
  }

  Result<void> update(mail::MessageId id, const MessageRow& row,
                      std::span<const RecipientRow> alive) override {
    MessageRow counted = row;
    counted.held = 0;
    for (const auto& recipient : alive)
      counted.held += recipient.state == RecipientState::held ? 1 : 0;
    counted.waiting = static_cast<std::int64_t>(alive.size()) - counted.held;
    return update(id, counted);
  }

  Result<void> update(mail::MessageId id, const MessageRow& row) override {
    Query query(update_message_);
    query.bind(row.waiting > 0 ? row.deadline : kNever).bind(row.expires);
    query.bind(row.waiting).bind(row.held);
    query.bind(row.tried ? 1 : 0).bind(notices_of(row)).bind(row.logged).bind(id.value);
    return query.run();
  }

  Result<void> set_deadline(mail::MessageId id, std::int64_t deadline) override {
    return Query(set_deadline_).bind(deadline).bind(id.value).run();
  }

  Result<std::vector<QueuedEntry>> queued_in(std::int64_t domain, const QueuedPlace& after,
                                             std::size_t most) override {
    Query query(queued_in_);
    query.bind(domain).bind(after.next_attempt).bind(after.id.value).bind(after.index);
    query.bind(static_cast<std::int64_t>(most));
    return query.rows([](const Query& row) {
      const QueuedPlace place{
          row.integer(0), {row.integer(1)}, static_cast<std::uint32_t>(row.integer(2))};
      return QueuedEntry{place, std::string(row.text(3))};
    });
  }

  Result<std::vector<UntriedEntry>> untried(const UntriedEntry& after, std::size_t most) override {
    Query query(untried_);
    query.bind(after.id.value).bind(after.index).bind(static_cast<std::int64_t>(most));
    mail::MessageId id;
    TimePoint release;
    return query.rows([&](const Query& row) {
      UntriedEntry entry;
      entry.id = {row.integer(0)};
      entry.index = static_cast<std::uint32_t>(row.integer(1));
      entry.next_attempt = row.integer(2);
      entry.domain = row.integer(3);
      if (entry.id != std::exchange(id, entry.id)) {
        const auto head = decode_head(entry.id, row.blob(4));
        release = head ? head->envelope.release : TimePoint();
      }
      entry.release = release;
      return entry;
    });
  }

  Result<void> postpone(const UntriedEntry& entry, std::int64_t next_attempt) override {
    Query query(postpone_);
    query.bind(entry.id.value).bind(entry.index).bind(next_attempt);
    if (auto done = query.run(); !done)
      return done.error();
    return destinations_.touch(entry.domain, next_attempt);
  }

  Result<bool> mark_tried(mail::MessageId id) override {
    if (auto done = Query(mark_tried_).bind(id.value).run(); !done)
      return done.error();
    return database_.changes() == 1;
  }

  Result<bool> exists(mail::MessageId id) override {
    auto found = Query(exists_).bind(id.value).first(0);
    if (!found)
      return found.error();
    return *found != 0;
  }

 private:
  Result<void> find_domains(const mail::Message& message, std::vector<RecipientRow>& recipients) {
    const auto& next_hop = message.origin.next_hop;
    for (auto& recipient : recipients) {
      if (!recipient.is_alive() || recipient.domain != 0)
        continue;
      auto domain =
          destinations_.domain_id(next_hop.empty() ? mail::domain_of(recipient.address) : next_hop);
      if (!domain)
        return domain.error();
      recipient.domain = *domain;
    }
    return {};
  }

  static std::int64_t notices_of(const MessageRow& row) {
    return (row.delayed ? kDelayed : 0) | (row.late_told ? kLateTold : 0);
  }

  static RecipientRow read_recipient(const Query& row) {
    RecipientRow recipient;
    recipient.index = static_cast<std::uint32_t>(row.integer(0));
    recipient.domain = row.integer(1);
    const auto state = row.integer(2);  // a damaged one counts as held
    recipient.state = state < 0 ? RecipientState::held : static_cast<RecipientState>(state);
    recipient.attempts = static_cast<std::uint32_t>(row.integer(3));
    recipient.next_attempt = row.integer(4);
    recipient.last = row.blob(5);
    recipient.lane = row.integer(6);
    return recipient;
  }

  static RecipientCounts counts_of(const std::vector<RecipientRow>& recipients) {
    RecipientCounts counts;
    for (const auto& recipient : recipients) {
      counts.held += recipient.state == RecipientState::held ? 1 : 0;
      counts.waiting += recipient.is_alive() && recipient.state != RecipientState::held ? 1 : 0;
    }
    return counts;
  }

  Result<void> move_content(const mail::Message& message, const MessageRow& row,
                            const RecipientCounts& counts) {
    {
      Query query(move_message_);
      bind_message(query, message, row, counts);
      if (auto done = query.run(); !done)
        return done.error();
    }
    if (database_.changes() != 1)
      return Error(Errc::corrupt, "move message " + to_string(message.id) + ": its row is missing");
    if (auto done = Query(move_body_).bind(message.id.value).run(); !done)
      return done.error();
    return incoming_.remove(message.id);
  }

  static void bind_message(Query& query, const mail::Message& message, const MessageRow& row,
                           const RecipientCounts& counts) {
    query.bind(message.id.value).bind(counts.waiting > 0 ? row.deadline : kNever);
    query.bind(row.expires).bind(message.received.time_since_epoch().count());
    query.bind(static_cast<std::int64_t>(message.content.size));
    query.bind(counts.waiting).bind(counts.held);
    query.bind(row.tried ? 1 : 0).bind(notices_of(row));
    query.bind_text(message.envelope.sender);
  }

  Result<void> insert_recipients(Statement& statement, mail::MessageId id, std::int64_t lane,
                                 std::span<const RecipientRow> recipients) {
    for (const auto& recipient : recipients) {
      Query add(statement);
      add.bind(id.value).bind(recipient.index).bind(recipient.domain);
      add.bind(static_cast<std::int64_t>(recipient.state)).bind(recipient.attempts);
      add.bind(recipient.next_attempt).bind(lane).bind_text(recipient.address);
      if (recipient.last.empty())
        add.bind_null();
      else
        add.bind_blob(recipient.last);
      if (auto done = add.run(); !done)
        return done.error();
      if (recipient.is_alive() && recipient.next_attempt != kNever)
        if (auto done = destinations_.touch(recipient.domain, recipient.next_attempt); !done)
          return done.error();
    }
    return {};
  }

  Database& database_;
  IncomingRows& incoming_;
  AttemptRows& attempts_;
  Destinations& destinations_;
  Statement insert_message_, move_message_, insert_body_, move_body_, insert_recipient_,
      delete_message_, delete_body_, delete_recipients_, message_row_, message_sender_,
      message_head_, body_, alive_, update_recipient_, update_message_, exists_, damaged_incoming_,
      mark_damaged_, mark_tried_, queued_in_, set_deadline_, insert_if_missing_, delete_recipient_,
      alive_one_, count_alive_, some_alive_, due_, untried_, postpone_;
};

}  // namespace

Result<std::unique_ptr<MessageRows>> prepare_messages(Database& database, IncomingRows& incoming,
                                                      AttemptRows& attempts,
                                                      Destinations& destinations) {
  auto made = std::make_unique<SqliteMessages>(database, incoming, attempts, destinations);
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<MessageRows>(std::move(made));
}

}  // namespace postrider::queue
