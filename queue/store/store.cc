#include "queue/store/store.h"

#include "queue/checksum.h"
#include "queue/row_codec.h"
#include "queue/store/schema.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kKeptAttempts = 100;

std::int64_t milliseconds(TimePoint when) {
  return when.time_since_epoch().count();
}

}  // namespace

Result<Store> Store::open(const std::string& path, const char* vfs, const Leases& leases) {
  Store store;
  auto database = Database::open(path, Database::Mode::writer, vfs);
  if (!database)
    return database.error();
  store.database_ = *std::move(database);
  for (auto* step : {check_identity, configure_page_size, configure_writer, prepare_database})
    if (auto done = step(store.database_); !done)
      return done.error();
  if (auto done = add_filter_functions(store.database_, leases); !done)
    return done.error();
  for (auto step : {&Store::prepare, &Store::prepare_due, &Store::prepare_change})
    if (auto done = (store.*step)(); !done)
      return done.error();
  return store;
}

Result<void> Store::prepare() {
  return prepare_all(
      database_,
      {
          {insert_incoming_, "INSERT INTO incoming(id, size, head, body) VALUES(?, ?, ?, ?)"},
          {delete_incoming_, "DELETE FROM incoming WHERE id = ?"},
          {incoming_ids_, "SELECT id FROM incoming ORDER BY id"},
          {incoming_head_, "SELECT head FROM incoming WHERE id = ?"},
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
           "INSERT INTO recipient(message, idx, domain, state, attempts, next_attempt, address, "
           "last)"
           " VALUES(?, ?, ?, ?, ?, ?, ?, ?)"},
          {delete_message_, "DELETE FROM message WHERE id = ?"},
          {delete_body_, "DELETE FROM body WHERE id = ?"},
          {delete_recipients_, "DELETE FROM recipient WHERE message = ?"},
          {delete_attempts_, "DELETE FROM attempt WHERE message = ?"},
          {message_row_,
           "SELECT deadline, expires, tried, delayed, logged FROM message WHERE id = ?"},
          {message_head_, "SELECT head FROM message WHERE id = ?"},
          {body_, "SELECT data FROM body WHERE id = ?"},
          {alive_,
           "SELECT idx, domain, state, attempts, next_attempt, last FROM recipient"
           " WHERE message = ? AND state < {ended} ORDER BY idx"},
          {update_recipient_,
           "UPDATE recipient SET state = ?, attempts = ?, next_attempt = ?, last = ?"
           " WHERE message = ? AND idx = ?"},
          {update_message_,
           "UPDATE message SET deadline = ?, expires = ?, waiting = ?, held = ?, tried = ?,"
           " delayed = ?, logged = ? WHERE id = ?"},
          {insert_attempt_,
           "INSERT OR REPLACE INTO attempt(message, seq, at, recipient, outcome)"
           " VALUES(?, ?, ?, ?, ?)"},
          {trim_attempts_, "DELETE FROM attempt WHERE message = ? AND seq <= ?"},
          {set_logged_, "UPDATE message SET logged = ? WHERE id = ?"},
          {exists_,
           "SELECT EXISTS(SELECT 1 FROM incoming WHERE id = ?1)"
           " OR EXISTS(SELECT 1 FROM message WHERE id = ?1)"},
          {damaged_incoming_,
           "INSERT INTO message(id, deadline, expires, received, size, waiting, held, tried, "
           "delayed,"
           " logged, sender, head, damaged)"
           " SELECT id, {never}, {never}, id / 1000, size, 0, 1, 1, 1, 0, '',"
           " head, 1 FROM incoming WHERE id = ?"},
          {mark_damaged_, "UPDATE message SET damaged = 1 WHERE id = ?"},
          {find_dropped_, "SELECT message FROM dropped WHERE name = ?"},
          {add_dropped_, "INSERT INTO dropped(name, message) VALUES(?, ?)"},
          {forget_dropped_, "DELETE FROM dropped WHERE name = ?"},
          {get_meta_, "SELECT value FROM meta WHERE key = ?"},
          {set_meta_, "INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)"},
      });
}

Result<void> Store::insert_incoming(const mail::Message& message, std::string_view head) {
  Query query(insert_incoming_);
  query.bind(message.id.value).bind(static_cast<std::int64_t>(message.content.size));
  query.bind_blob(head);
  if (message.content.bytes)
    query.bind_blob(*message.content.bytes);
  else
    query.bind_null();
  return query.run();
}

Result<void> Store::delete_incoming(mail::MessageId id) {
  return Query(delete_incoming_).bind(id.value).run();
}

Result<std::vector<mail::MessageId>> Store::incoming_ids() {
  return Query(incoming_ids_).rows([](const Query& row) {
    return mail::MessageId{row.integer(0)};
  });
}

Result<std::shared_ptr<const mail::Message>> Store::load_incoming_head(mail::MessageId id) {
  Query query(incoming_head_);
  query.bind(id.value);
  auto row = query.next();
  if (!row)
    return row.error();
  if (!*row)
    return Error(Errc::not_found, "load message " + to_string(id));
  auto message = decode_head(id, query.blob(0));
  if (!message)
    return message.error();
  return std::make_shared<const mail::Message>(*std::move(message));
}

Result<void> Store::insert_message(const mail::Message& message, std::string_view head,
                                   MessageRow row, std::vector<RecipientRow> recipients) {
  std::int64_t waiting = 0;
  std::int64_t held = 0;
  for (auto& recipient : recipients) {
    held += recipient.state == RecipientState::held ? 1 : 0;
    waiting += recipient.is_alive() && recipient.state != RecipientState::held ? 1 : 0;
    if (!recipient.is_alive())
      continue;
    auto domain = domain_id(mail::domain_of(recipient.address));
    if (!domain)
      return domain.error();
    recipient.domain = *domain;
  }
  const bool from_incoming = head.empty();
  Query query(from_incoming ? move_message_ : insert_message_);
  query.bind(message.id.value).bind(waiting > 0 ? row.deadline : kNever).bind(row.expires);
  query.bind(milliseconds(message.received));
  query.bind(static_cast<std::int64_t>(message.content.size)).bind(waiting).bind(held);
  query.bind(row.tried ? 1 : 0).bind(row.delayed ? 1 : 0);
  query.bind_text(message.envelope.sender);
  if (!from_incoming)
    query.bind_blob(head);
  if (auto done = query.run(); !done)
    return done.error();
  if (from_incoming && database_.changes() != 1)
    return Error(Errc::corrupt, "move message " + to_string(message.id) + ": its row is missing");

  if (from_incoming) {
    if (auto done = Query(move_body_).bind(message.id.value).run(); !done)
      return done.error();
    if (auto done = delete_incoming(message.id); !done)
      return done.error();
  } else if (message.content.bytes) {
    Query body(insert_body_);
    if (auto done = body.bind(message.id.value).bind_blob(*message.content.bytes).run(); !done)
      return done.error();
  }
  for (const auto& recipient : recipients) {
    Query add(insert_recipient_);
    add.bind(message.id.value).bind(recipient.index).bind(recipient.domain);
    add.bind(static_cast<std::int64_t>(recipient.state)).bind(recipient.attempts);
    add.bind(recipient.next_attempt).bind_text(recipient.address);
    if (recipient.last.empty())
      add.bind_null();
    else
      add.bind_blob(recipient.last);
    if (auto done = add.run(); !done)
      return done.error();
    if (recipient.is_alive() && recipient.next_attempt != kNever)
      if (auto done = touch(recipient.domain, recipient.next_attempt); !done)
        return done.error();
  }
  return {};
}

Result<void> Store::quarantine_incoming(mail::MessageId id, const std::string& last) {
  if (auto done = Query(damaged_incoming_).bind(id.value).run(); !done)
    return done.error();
  if (auto done = Query(move_body_).bind(id.value).run(); !done)
    return done.error();
  auto domain = domain_id("");
  if (!domain)
    return domain.error();
  Query add(insert_recipient_);
  add.bind(id.value).bind(0).bind(*domain);
  add.bind(static_cast<std::int64_t>(RecipientState::held)).bind(0).bind(kNever);
  add.bind_text("").bind_blob(last);
  if (auto done = add.run(); !done)
    return done.error();
  return delete_incoming(id);
}

Result<void> Store::delete_message(mail::MessageId id) {
  for (Statement* statement :
       {&delete_message_, &delete_body_, &delete_recipients_, &delete_attempts_})
    if (auto done = Query(*statement).bind(id.value).run(); !done)
      return done.error();
  return {};
}

Result<std::optional<MessageRow>> Store::load_row(mail::MessageId id) {
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
  message.delayed = query.integer(3) != 0;
  message.logged = query.integer(4);
  return std::optional(message);
}

Result<std::vector<RecipientRow>> Store::load_alive(mail::MessageId id) {
  return Query(alive_).bind(id.value).rows([](const Query& row) {
    RecipientRow recipient;
    recipient.index = static_cast<std::uint32_t>(row.integer(0));
    recipient.domain = row.integer(1);
    const auto state = row.integer(2);  // a damaged one counts as held
    recipient.state = state < 0 ? RecipientState::held : static_cast<RecipientState>(state);
    recipient.attempts = static_cast<std::uint32_t>(row.integer(3));
    recipient.next_attempt = row.integer(4);
    recipient.last = row.blob(5);
    return recipient;
  });
}

Result<StoredMessage> Store::load_message(mail::MessageId id) {
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

Result<void> Store::mark_damaged(mail::MessageId id) {
  return Query(mark_damaged_).bind(id.value).run();
}

Result<std::optional<mail::MessageId>> Store::find_dropped(std::string_view drop_id) {
  Query query(find_dropped_);
  query.bind_text(drop_id);
  auto row = query.next();
  if (!row)
    return row.error();
  return *row ? std::optional(mail::MessageId{query.integer(0)}) : std::nullopt;
}

Result<void> Store::add_dropped(std::string_view drop_id, mail::MessageId id) {
  return Query(add_dropped_).bind_text(drop_id).bind(id.value).run();
}

Result<void> Store::forget_dropped(std::string_view drop_id) {
  return Query(forget_dropped_).bind_text(drop_id).run();
}

Result<void> Store::update_recipient(mail::MessageId id, const RecipientRow& row) {
  Query query(update_recipient_);
  query.bind(static_cast<std::int64_t>(row.state)).bind(row.attempts).bind(row.next_attempt);
  if (row.last.empty())
    query.bind_null();
  else
    query.bind_blob(row.last);
  query.bind(id.value).bind(row.index);
  if (auto done = query.run(); !done)
    return done.error();
  if (row.is_alive() && row.next_attempt != kNever)
    return touch(row.domain, row.next_attempt);
  return {};
}

Result<void> Store::update_message(mail::MessageId id, const MessageRow& row,
                                   std::span<const RecipientRow> alive) {
  std::int64_t held = 0;
  for (const auto& recipient : alive)
    held += recipient.state == RecipientState::held ? 1 : 0;
  const auto waiting = static_cast<std::int64_t>(alive.size()) - held;
  Query query(update_message_);
  query.bind(waiting > 0 ? row.deadline : kNever).bind(row.expires).bind(waiting).bind(held);
  query.bind(row.tried ? 1 : 0).bind(row.delayed ? 1 : 0).bind(row.logged).bind(id.value);
  return query.run();
}

Result<void> Store::log_attempt(mail::MessageId id, std::int64_t seq, TimePoint when,
                                std::uint32_t recipient, std::string_view outcome) {
  Query query(insert_attempt_);
  query.bind(id.value).bind(seq).bind(milliseconds(when)).bind(recipient).bind_blob(outcome);
  if (auto done = query.run(); !done)
    return done.error();
  if (seq <= kKeptAttempts)
    return {};
  return Query(trim_attempts_).bind(id.value).bind(seq - kKeptAttempts).run();
}

Result<void> Store::set_logged(mail::MessageId id, std::int64_t seq) {
  return Query(set_logged_).bind(seq).bind(id.value).run();
}

Result<bool> Store::exists(mail::MessageId id) {
  auto found = Query(exists_).bind(id.value).first(0);
  if (!found)
    return found.error();
  return *found != 0;
}

Result<std::int64_t> Store::meta(std::string_view key) {
  return Query(get_meta_).bind_text(key).first(0);
}

Result<void> Store::set_meta(std::string_view key, std::int64_t value) {
  return Query(set_meta_).bind_text(key).bind(value).run();
}

}  // namespace postrider::queue
