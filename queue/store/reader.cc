#include "queue/store/reader.h"

#include "queue/store/row_filter.h"
#include "queue/store/schema.h"
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

namespace {

RecipientState state_of(std::int64_t number) {  // a damaged one counts as held
  return number < 0 ? RecipientState::held : static_cast<RecipientState>(number);
}

// In the order of the columns of waiting_.
WaitingEntry read_waiting(const Query& row) {
  WaitingEntry entry;
  entry.id = {row.integer(0)};
  entry.received = row.integer(1);
  entry.expires = row.integer(2);
  entry.size = row.integer(3);
  entry.waiting = row.integer(4);
  entry.tried = row.integer(5) != 0;
  entry.sender = row.text(6);
  entry.index = static_cast<std::uint32_t>(row.integer(7));
  entry.address = row.text(8);
  entry.state = state_of(row.integer(9));
  entry.attempts = static_cast<std::uint32_t>(row.integer(10));
  entry.next_attempt = row.integer(11);
  entry.last = row.blob(12);
  entry.domain = row.text(13);
  entry.site = row.text(14);
  entry.blocked_until = row.integer(15);
  entry.site_last = row.blob(16);
  entry.site_failures = row.integer(17);
  return entry;
}

class SqliteReader final : public Reader {
 public:
  Result<void> open(const std::string& path, const char* vfs, const Leases& leases) {
    auto database = Database::open(path, Database::Mode::reader, vfs);
    if (!database)
      return database.error();
    database_ = *std::move(database);
    if (auto done = configure_reader(database_); !done)
      return done.error();
    if (auto done = add_filter_functions(database_, leases); !done)
      return done.error();
    return prepare();
  }

  Result<Transaction> begin() override { return Transaction::begin_reading(database_); }

  Result<void> each_incoming(IdRange range,
                             const std::function<bool(const IncomingEntry&)>& visit) override {
    return Query(incoming_).bind(range.after).bind(range.to).for_each([&](const Query& row) {
      return visit({{row.integer(0)}, row.integer(1), row.blob(2)});
    });
  }

  Result<void> each_waiting(const PreparedFilter& filter, IdRange range, std::int64_t now,
                            const std::function<bool(const WaitingEntry&)>& visit) override {
    Query query(waiting_.statement());
    return waiting_.bind(query, filter, {range, now}).for_each([&](const Query& row) {
      return visit(read_waiting(row));
    });
  }

  Result<void> count_waiting(const PreparedFilter& filter, IdRange range, std::int64_t now,
                             const Count& count) override {
    auto& counted = filter.asks_for_recipients() ? count_recipients_ : count_messages_;
    Query query(counted.statement());
    return counted.bind(query, filter, {range, now}).for_each([&](const Query& row) {
      count({row.integer(0)}, row.integer(1));
    });
  }

  Result<std::optional<std::vector<mail::MessageId>>> candidates(
      const PreparedFilter& filter) override {
    return find_candidates(filter, of_domain_);
  }

  Result<std::int64_t> end_of_chunk(std::int64_t after, std::int64_t messages) override {
    return Query(chunk_end_).bind(after).bind(messages - 1).first(kNever);
  }

  Result<std::vector<std::int64_t>> messages_of_domain(const std::string& domain) override {
    return Query(count_of_domain_).bind_text(domain).rows([](const Query& row) {
      return row.integer(0);
    });
  }

  Result<std::string> head(mail::MessageId id) override {
    Query query(head_of_);
    auto row = query.bind(id.value).next();
    if (!row)
      return row.error();
    return *row ? std::string(query.blob(0)) : std::string();
  }

  // Once more where it landed: it may have moved meanwhile, to either.
  Result<std::optional<StoredBytes>> load(mail::MessageId id) override {
    for (Statement* statement : {&load_incoming_, &load_waiting_, &load_incoming_}) {
      Query query(*statement);
      auto row = query.bind(id.value).next();
      if (!row)
        return row.error();
      if (*row)
        return std::optional(StoredBytes{std::string(query.blob(0)), std::string(query.blob(1))});
    }
    return std::optional<StoredBytes>();
  }

  Result<std::optional<WaitingCounts>> counts_of(mail::MessageId id) override {
    Query query(waiting_row_);
    auto row = query.bind(id.value).next();
    if (!row)
      return row.error();
    if (!*row)
      return std::optional<WaitingCounts>();
    return std::optional(WaitingCounts{query.integer(0), query.integer(1), query.integer(2) != 0});
  }

  Result<std::vector<AttemptEntry>> attempts(mail::MessageId id) override {
    return Query(attempts_of_).bind(id.value).rows([](const Query& row) {
      return AttemptEntry{row.integer(0), static_cast<std::uint32_t>(row.integer(1)),
                          std::string(row.blob(2))};
    });
  }

  Result<std::vector<TallyEntry>> tally() override {
    return Query(tally_rows_).rows([](const Query& row) {
      return TallyEntry{row.integer(0), row.integer(1), row.integer(2), row.integer(3)};
    });
  }

  Result<std::vector<ArrivedEntry>> arrived() override {
    return Query(arrived_rows_).rows([](const Query& row) {
      return ArrivedEntry{row.integer(0), row.integer(1)};
    });
  }

  Result<std::int64_t> damaged() override { return Query(damaged_count_).first(0); }

  Result<std::int64_t> oldest() override { return Query(oldest_id_).first(0); }

  Result<std::vector<SiteEntry>> sites() override {
    return Query(troubled_sites_).rows([](const Query& row) {
      return SiteEntry{std::string(row.text(0)), row.integer(1),           row.integer(2),
                       row.integer(3),           std::string(row.blob(4)), row.integer(5)};
    });
  }

  Result<std::vector<std::string>> dropped() override {
    return Query(dropped_names_).rows([](const Query& row) { return std::string(row.text(0)); });
  }

  Result<std::vector<PauseRow>> pauses() override { return read_pauses(pauses_); }

 private:
  Result<void> prepare() {
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
            {head_of_, "SELECT head FROM message WHERE id = ?"},
            {of_domain_, kMessagesOfDomain},
            {count_of_domain_,
             "SELECT message FROM recipient INDEXED BY recipient_due"
             " WHERE domain = (SELECT id FROM domain WHERE name = ?1) AND state < {ended}"
             " UNION ALL SELECT r.message FROM domain d CROSS JOIN recipient r"
             " INDEXED BY recipient_due ON r.domain = d.id WHERE ((d.name >= 'lmtp' AND"
             " d.name < 'lmtq') OR (d.name >= 'smtp' AND d.name < 'smtq'))"
             " AND instr(d.name, '://') > 0 AND r.state < {ended} AND in_domain(r.address, ?1)"},
            {waiting_row_, "SELECT waiting, held, tried FROM message WHERE id = ?"},
            {chunk_end_, "SELECT id FROM message WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"},
            {load_waiting_,
             "SELECT m.head, b.data FROM message m LEFT JOIN body b ON b.id = m.id WHERE m.id = ?"},
            {load_incoming_, "SELECT head, body FROM incoming WHERE id = ?"},
            {attempts_of_,
             "SELECT at, recipient, outcome FROM attempt WHERE message = ? ORDER BY seq"},
            {troubled_sites_,
             "SELECT name, blocked_until, failures, since, last,"
             " (SELECT CAST(total(d.recipients) AS INTEGER) FROM domain d WHERE d.site = site.id)"
             " FROM site WHERE failures > 0 OR blocked_until > 0 ORDER BY name"},
            {tally_rows_, "SELECT status, messages, recipients, bytes FROM tally"},
            {arrived_rows_, "SELECT minute, messages FROM arrived"},
            {damaged_count_,
             "SELECT count(*) FROM message INDEXED BY message_damaged WHERE damaged = 1"},
            {dropped_names_,
             "SELECT name FROM dropped WHERE NOT (name > 'key.' AND name < 'key/')"
             " AND NOT (name > 'old.' AND name < 'old/')"},
            {pauses_, kAllPauses},
            {oldest_id_,
             "SELECT min(id) FROM (SELECT min(id) AS id FROM incoming"
             " UNION ALL SELECT min(id) FROM message)"},
        });
  }

  Database database_;  // outlives its statements
  FilterStatement waiting_, count_messages_, count_recipients_;
  Statement incoming_, head_of_, of_domain_, chunk_end_, load_waiting_, load_incoming_,
      attempts_of_, troubled_sites_, count_of_domain_, waiting_row_, tally_rows_, arrived_rows_,
      oldest_id_, damaged_count_, dropped_names_, pauses_;
};

}  // namespace

Result<std::unique_ptr<Reader>> open_reader(const std::string& path, const char* vfs,
                                            const Leases& leases) {
  auto reader = std::make_unique<SqliteReader>();
  if (auto done = reader->open(path, vfs, leases); !done)
    return done.error();
  return std::unique_ptr<Reader>(std::move(reader));
}

}  // namespace postrider::queue
