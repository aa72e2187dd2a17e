// One change to many recipients, whatever their number: a few statements in one transaction.
#include "queue/row_codec.h"
#include "queue/store/row_filter.h"
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

namespace {

// The plus: from what is picked to its rows, and never through all rows of the queue, whatever SQLite
// thinks of how much there is.
constexpr const char* kHold[] = {
    "UPDATE recipient SET state = {held}, next_attempt = {never} FROM temp.picked p"
    " WHERE recipient.message = +p.message AND recipient.idx = +p.idx"};

// What was held beyond its lifetime gets an hour more: a release is a wish to have it tried.
constexpr const char* kRelease[] = {
    "UPDATE recipient SET state = {queued}, next_attempt = ?1,"
    " last = CASE WHEN p.is_unreleased THEN NULL ELSE recipient.last END FROM temp.picked p"
    " WHERE recipient.message = +p.message AND recipient.idx = +p.idx",
    "UPDATE message SET expires = max(expires, ?1 + 3600000), damaged = 0"
    " WHERE id IN (SELECT message FROM temp.picked)",
    "UPDATE message SET deadline = CASE WHEN delayed & 1 THEN expires"
    " ELSE min(expires, ?1 + ?2) END"
    " WHERE id IN (SELECT message FROM temp.picked)"};

constexpr const char* kWaitForSender =
    "UPDATE recipient SET next_attempt = ?2, last = ?3 FROM temp.picked p WHERE p.message = ?1"
    " AND NOT p.is_unreleased AND recipient.message = ?1 AND recipient.idx = p.idx"
    " AND recipient.attempts = 0";
constexpr const char* kKeepEnd = "UPDATE message SET expires = min(expires, ?2) WHERE id = ?1";
// The bits of `delayed` are those of message_rows.cc.
constexpr const char* kKeepDeadline =
    "UPDATE message SET deadline = min(CASE WHEN delayed & 1 THEN expires"
    " ELSE min(expires, ?2) END, CASE WHEN delayed & 2 THEN expires ELSE ?3 END) WHERE id = ?1";

constexpr const char* kRetry[] = {
    "UPDATE recipient SET next_attempt = ?1 FROM temp.picked p"
    " WHERE recipient.message = +p.message AND recipient.idx = +p.idx",
    "UPDATE site SET blocked_until = min(blocked_until, ?1) WHERE id IN"
    " (SELECT site FROM domain WHERE id IN (SELECT domain FROM temp.picked))"};

constexpr const char* kRemove[] = {
    "UPDATE recipient SET state = {removed}, next_attempt = {never} FROM temp.picked p"
    " WHERE recipient.message = +p.message AND recipient.idx = +p.idx"};

constexpr const char* kBounce[] = {
    "UPDATE recipient SET state = {bouncing}, next_attempt = {never} FROM temp.picked p"
    " WHERE recipient.message = +p.message AND recipient.idx = +p.idx"};

constexpr const char* kExpire[] = {
    "UPDATE recipient SET state = {bouncing}, next_attempt = {expire_now} FROM temp.picked p"
    " WHERE recipient.message = +p.message AND recipient.idx = +p.idx"};

// What is not due by itself stays so.
constexpr const char* kReroute =
    "UPDATE recipient SET domain = ?2,"
    " next_attempt = CASE WHEN state = {queued} AND NOT p.is_unreleased THEN ?1"
    " ELSE next_attempt END FROM temp.picked p"
    " WHERE recipient.message = +p.message AND recipient.idx = +p.idx";

constexpr const char* kCount[] = {
    "UPDATE message SET"
    " waiting = (SELECT count(*) FROM recipient r WHERE r.message = message.id"
    "            AND r.state IN ({queued}, {bouncing})),"
    " held = (SELECT count(*) FROM recipient r WHERE r.message = message.id AND r.state = {held})"
    " WHERE id IN (SELECT message FROM temp.picked)",
    "UPDATE message SET deadline = {never} WHERE waiting = 0"
    " AND id IN (SELECT message FROM temp.picked)"};

constexpr const char* kBounceNow[] = {
    "UPDATE message SET deadline = 0 WHERE id IN (SELECT message FROM temp.picked)"};

constexpr const char* kWake[] = {
    "UPDATE domain SET next_due = min(next_due, ?1) WHERE id IN (SELECT domain FROM temp.picked)",
    "UPDATE site SET wake = min(wake, max(?1, blocked_until)) WHERE id IN"
    " (SELECT site FROM domain WHERE id IN (SELECT domain FROM temp.picked))"};

constexpr const char* kKeepOnlyEnded[] = {
    "DELETE FROM temp.picked WHERE EXISTS (SELECT 1 FROM recipient r"
    " WHERE r.message = picked.message AND r.state < {ended})"};

// A message without a row in `body` has its content in a file.
constexpr const char* kGone =
    "SELECT m.id, m.head, EXISTS (SELECT 1 FROM body b WHERE b.id = m.id) FROM message m"
    " WHERE m.id IN (SELECT message FROM temp.picked)";

constexpr const char* kDelete[] = {
    "DELETE FROM message WHERE id IN (SELECT message FROM temp.picked)",
    "DELETE FROM body WHERE id IN (SELECT message FROM temp.picked)",
    "DELETE FROM recipient WHERE message IN (SELECT message FROM temp.picked)",
    "DELETE FROM attempt WHERE message IN (SELECT message FROM temp.picked)"};

// What may wait for a time that its sender chose. CROSS JOIN: in that order. SQLite knows nothing of
// how much there is, and would go through all recipients of the queue instead.
constexpr const char* kPerhapsUnreleased =
    "SELECT DISTINCT m.id, m.head FROM temp.picked p"
    " CROSS JOIN recipient r ON r.message = p.message AND r.idx = p.idx"
    " CROSS JOIN message m ON m.id = r.message"
    " WHERE r.state = {queued} AND r.attempts = 0 AND r.next_attempt > ?1 AND r.last NOTNULL";

constexpr const char* kMarkUnreleased =
    "UPDATE temp.picked SET is_unreleased = 1 WHERE message = ?2 AND idx IN (SELECT idx FROM"
    " recipient WHERE message = ?2 AND state = {queued} AND attempts = 0 AND next_attempt > ?1)";

constexpr const char* kCountAll = "SELECT count(DISTINCT message), count(*) FROM temp.picked";

constexpr const char* kCountUnreleased =
    "SELECT count(DISTINCT message), count(*) FROM temp.picked WHERE is_unreleased";

constexpr const char* kCountHeld =
    "SELECT count(DISTINCT p.message), count(*) FROM temp.picked p"
    " CROSS JOIN recipient r ON r.message = p.message AND r.idx = p.idx WHERE r.state = {held}";

constexpr const char* kUnpickHeld[] = {
    "DELETE FROM temp.picked WHERE EXISTS (SELECT 1 FROM recipient r"
    " WHERE r.message = picked.message AND r.idx = picked.idx AND r.state = {held})"};

constexpr const char* kUnpickUnreleased[] = {"DELETE FROM temp.picked WHERE is_unreleased"};

constexpr const char* kUnpickReleased[] = {
    "DELETE FROM temp.picked WHERE NOT is_unreleased AND EXISTS (SELECT 1 FROM recipient r"
    " WHERE r.message = picked.message AND r.idx = picked.idx AND r.state = {queued})"};

std::span<const char* const> statements_for(Verb verb) {
  switch (verb) {
    case Verb::hold:
      return kHold;
    case Verb::release:
      return kRelease;
    case Verb::retry:
      return kRetry;
    case Verb::remove:
      return kRemove;
    case Verb::bounce:
      return kBounce;
    case Verb::expire:
      return kExpire;
    case Verb::reroute:
      break;  // see reroute()
  }
  return {};
}

class SqliteChange final : public BulkChange {
 public:
  SqliteChange(Database& database, Destinations& destinations)
      : database_(database), destinations_(destinations) {}

  Result<void> prepare(Database&) {
    if (auto done = database_.execute(
            "CREATE TEMP TABLE IF NOT EXISTS picked(message INTEGER, idx INTEGER, domain INTEGER,"
            " is_unreleased INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(message, idx)) WITHOUT ROWID");
        !done)
      return done.error();
    if (auto done =
            pick_.prepare_recipients(database_,
                                     "INSERT OR IGNORE INTO temp.picked(message, idx, domain)"
                                     " SELECT r.message, r.idx, r.domain",
                                     " AND (:states >> r.state) & 1");
        !done)
      return done.error();
    return prepare_all(
        database_,
        {{of_domain_, kMessagesOfDomain},
         {end_of_piece_, "SELECT id FROM message WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"},
         {unpick_, "DELETE FROM temp.picked WHERE message = ?"}});
  }

  Result<std::optional<std::vector<mail::MessageId>>> candidates(
      const PreparedFilter& filter) override {
    return find_candidates(filter, of_domain_);
  }

  Result<void> pick(const PreparedFilter& filter, IdRange range, unsigned states,
                    std::int64_t now) override {
    Query query(pick_.statement());
    return pick_.bind(query, filter, {range, now, states}).run();
  }

  Result<void> unpick(mail::MessageId id) override { return Query(unpick_).bind(id.value).run(); }

  Result<Changed::Kept> count_held() override { return count(kCountHeld); }

  Result<Changed::Kept> unpick_held() override {
    auto held = count(kCountHeld);
    if (held && held->recipients > 0)
      if (auto done = run_all(kUnpickHeld, 0, 0); !done)
        return done.error();
    return held;
  }

  Result<void> sort_unreleased(Verb verb, std::int64_t now, TimePoint wall,
                               Changed& changed) override {
    if (verb != Verb::retry && verb != Verb::release && verb != Verb::reroute)
      return {};
    auto unreleased = find_unreleased(now, wall);
    if (!unreleased)
      return unreleased.error();
    auto mark = prepare_named(database_, kMarkUnreleased);
    if (!mark)
      return mark.error();
    for (const auto id : *unreleased)
      if (auto done = Query(*mark).bind(now).bind(id).run(); !done)
        return done.error();
    if (verb == Verb::release)
      return run_all(kUnpickReleased, now, 0);
    if (verb != Verb::retry || unreleased->empty())
      return {};
    auto kept = count(kCountUnreleased);
    if (!kept)
      return kept.error();
    changed.unreleased = *kept;
    return run_all(kUnpickUnreleased, now, 0);
  }

  Result<std::int64_t> end_of_piece(std::int64_t after, std::int64_t messages) override {
    return Query(end_of_piece_).bind(after).bind(messages - 1).first(kNever);
  }

  Result<Changed> picked() override {
    const auto all = count(kCountAll);
    if (!all)
      return all.error();
    Changed changed;
    changed.messages = all->messages;
    changed.recipients = all->recipients;
    return changed;
  }

  Result<std::vector<Picked>> picked_recipients() override {
    auto statement = database_.prepare(
        "SELECT p.message, p.idx, r.address, m.sender, m.head,"
        " (SELECT d.name FROM domain d WHERE d.id = p.domain) FROM temp.picked p"
        " JOIN recipient r ON r.message = p.message AND r.idx = p.idx"
        " JOIN message m ON m.id = p.message ORDER BY p.message, p.idx");
    if (!statement)
      return statement.error();
    std::vector<Picked> picked;
    Query query(*statement);
    auto done = query.for_each([&](const Query& row) {
      Picked one;
      one.id = {row.integer(0)};
      one.index = static_cast<std::uint32_t>(row.integer(1));
      one.address = row.text(2);
      one.sender = row.text(3);
      one.domain = row.text(5);
      if (!picked.empty() && picked.back().id == one.id) {
        one.envelope_id = picked.back().envelope_id;
        one.trace_parent = picked.back().trace_parent;
      } else if (auto head = decode_head(one.id, row.blob(4)); head) {
        one.envelope_id = std::move(head->envelope.envelope_id);
        one.trace_parent = std::move(head->origin.trace_parent);
      }
      picked.push_back(std::move(one));
    });
    if (!done)
      return done.error();
    return picked;
  }

  Result<std::vector<PickedLease>> picked_leases(const Leases& leases) override {
    std::vector<PickedLease> picked;
    if (leases.messages() == 0)
      return picked;
    auto statement = database_.prepare(
        "SELECT message, idx FROM temp.picked WHERE is_leased(message) ORDER BY message, idx");
    if (!statement)
      return statement.error();
    Query query(*statement);
    auto done = query.for_each([&](const Query& row) {
      const mail::MessageId id{row.integer(0)};
      if (picked.empty() || picked.back().leased.id != id)
        picked.push_back({{id, {}}, 0});
      auto& last = picked.back();
      const auto index = static_cast<std::uint32_t>(row.integer(1));
      ++last.recipients;
      if (leases.is_leased(id, index))
        last.leased.recipients.push_back(index);
    });
    if (!done)
      return done.error();
    std::erase_if(picked, [](const PickedLease& one) { return one.leased.recipients.empty(); });
    return picked;
  }

  Result<void> apply(Verb verb, std::int64_t now, Duration delay_notice) override {
    const auto delay = delay_notice > Duration(0) ? delay_notice.count() : kNever / 2;
    if (auto done = run_all(statements_for(verb), now, delay); !done)
      return done.error();
    if (verb != Verb::retry)
      if (auto done = run_all(kCount, now, delay); !done)
        return done.error();
    if (verb == Verb::bounce || verb == Verb::expire)
      if (auto done = run_all(kBounceNow, now, delay); !done)
        return done.error();
    if (verb == Verb::release || verb == Verb::retry)
      if (auto done = run_all(kWake, now, delay); !done)
        return done.error();
    destinations_.forget();  // what it remembers of these rows
    return {};
  }

  Result<std::vector<std::shared_ptr<const mail::Message>>> picked_with_wishes() override {
    auto statement = database_.prepare(
        "SELECT id, head FROM message WHERE id IN (SELECT message FROM temp.picked)");
    if (!statement)
      return statement.error();
    std::vector<std::shared_ptr<const mail::Message>> wishing;
    Query query(*statement);
    auto done = query.for_each([&](const Query& row) {
      auto head = decode_head({row.integer(0)}, row.blob(1));
      if (head && (head->envelope.deliver_by || head->envelope.release != TimePoint()))
        wishing.push_back(std::make_shared<const mail::Message>(*std::move(head)));
    });
    if (!done)
      return done.error();
    return wishing;
  }

  Result<void> keep_wish(const Wish& wish) override {
    auto wait = prepare_named(database_, kWaitForSender);
    auto end = prepare_named(database_, kKeepEnd);
    auto deadline = prepare_named(database_, kKeepDeadline);
    for (auto* statement : {&wait, &end, &deadline})
      if (!*statement)
        return statement->error();
    if (wish.release != 0)
      if (auto done =
              Query(*wait).bind(wish.id.value).bind(wish.release).bind_blob(wish.waits).run();
          !done)
        return done.error();
    if (auto done = Query(*end).bind(wish.id.value).bind(wish.expires).run(); !done)
      return done.error();
    return Query(*deadline).bind(wish.id.value).bind(wish.delayed).bind(wish.late).run();
  }

  Result<void> reroute(const std::string& next_hop, std::int64_t now) override {
    auto domain = destinations_.domain_id(next_hop);
    if (!domain)
      return domain.error();
    auto statement = prepare_named(database_, kReroute);
    if (!statement)
      return statement.error();
    if (auto done = Query(*statement).bind(now).bind(*domain).run(); !done)
      return done.error();
    return destinations_.touch(*domain, now);
  }

  Result<std::vector<Unused>> remove_ended() override {
    if (auto done = run_all(kKeepOnlyEnded, 0, 0); !done)
      return done.error();
    auto unused = find_unused();
    if (!unused)
      return unused;
    if (auto done = run_all(kDelete, 0, 0); !done)
      return done.error();
    return unused;
  }

  Result<void> clear() override { return database_.execute("DELETE FROM temp.picked"); }

 private:
  Result<Changed::Kept> count(const char* sql) {
    auto statement = prepare_named(database_, sql);
    if (!statement)
      return statement.error();
    Query query(*statement);
    if (auto row = query.next(); !row)
      return row.error();
    return Changed::Kept{static_cast<std::uint64_t>(query.integer(0)),
                         static_cast<std::uint64_t>(query.integer(1))};
  }

  Result<std::vector<std::int64_t>> find_unreleased(std::int64_t now, TimePoint wall) {
    auto statement = prepare_named(database_, kPerhapsUnreleased);
    if (!statement)
      return statement.error();
    std::vector<std::int64_t> found;
    Query query(*statement);
    query.bind(now);
    auto done = query.for_each([&](const Query& row) {
      const auto head = decode_head({row.integer(0)}, row.blob(1));
      if (head && head->envelope.release > wall)
        found.push_back(row.integer(0));
    });
    if (!done)
      return done.error();
    return found;
  }

  Result<std::vector<Unused>> find_unused() {
    auto statement = database_.prepare(kGone);
    if (!statement)
      return statement.error();
    return Query(*statement).rows([](const Query& row) {
      Unused gone{{row.integer(0)}, {}};
      if (row.integer(2) == 0)
        if (auto head = decode_head(gone.id, row.blob(1)); head)
          gone.file = head->content.file;
      return gone;
    });
  }

  Result<void> run_all(std::span<const char* const> statements, std::int64_t now,
                       std::int64_t delay) {
    for (const char* sql : statements) {
      auto statement = prepare_named(database_, sql);
      if (!statement)
        return statement.error();
      Query query(*statement);
      if (statement->parameters() > 0)
        query.bind(now);
      if (statement->parameters() > 1)
        query.bind(delay);
      if (auto done = query.run(); !done)
        return done.error();
    }
    return {};
  }

  Database& database_;
  Destinations& destinations_;
  Statement of_domain_, end_of_piece_, unpick_;
  FilterStatement pick_;
};

}  // namespace

Result<std::unique_ptr<BulkChange>> prepare_change(Database& database, Destinations& destinations) {
  auto made = std::make_unique<SqliteChange>(database, destinations);
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<BulkChange>(std::move(made));
}

}  // namespace postrider::queue
