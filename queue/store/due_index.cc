// What is due, by index.
#include "queue/store/sqlite_store.h"

#include <unordered_set>

namespace postrider::queue {

namespace {

DueIndex::Due read_due(const Query& row) {
  return {row.integer(0), row.integer(1)};
}

class SqliteDue final : public DueIndex {
 public:
  Result<void> prepare(Database& database) {
    return prepare_all(
        database,
        {
            {due_sites_,
             "SELECT id, wake FROM site WHERE wake >= ?1 AND wake <= ?2 AND (wake > ?1 OR id > ?3)"
             " ORDER BY wake, id LIMIT ?4"},
            {due_domains_,
             "SELECT id, next_due FROM domain WHERE site = ?1 AND next_due >= ?2 AND next_due <= ?3"
             " AND (next_due > ?2 OR id > ?4) ORDER BY next_due, id LIMIT ?5"},
            {due_messages_,
             "SELECT message, idx, next_attempt FROM recipient WHERE domain = ? AND next_attempt "
             "<= ?"
             " AND (next_attempt, message) > (?, ?) AND state < {ended}"
             " ORDER BY next_attempt, message, idx"},
            {due_of_lane_,
             "SELECT message, idx, next_attempt FROM recipient INDEXED BY recipient_lane"
             " WHERE domain = ? AND lane = ? AND next_attempt <= ?"
             " AND (next_attempt, message) > (?, ?) AND state < {ended}"
             " ORDER BY next_attempt, message, idx"},
            {next_lane_,
             "SELECT lane, next_attempt FROM recipient INDEXED BY recipient_lane"
             " WHERE domain = ? AND lane > ? AND state < {ended}"
             " ORDER BY lane, next_attempt LIMIT 1"},
            {lane_, "SELECT lane FROM recipient WHERE message = ? AND idx = ?"},
            {due_deadlines_, "SELECT id FROM message WHERE deadline <= ? ORDER BY deadline, id"},
            {next_in_domain_,
             "SELECT next_attempt FROM recipient WHERE domain = ? AND next_attempt > ? AND state < "
             "{ended}"
             " ORDER BY next_attempt LIMIT 1"},
            {next_in_site_,
             "SELECT next_due FROM domain WHERE site = ? AND next_due > ? ORDER BY next_due LIMIT "
             "1"},
            {next_wake_, "SELECT wake FROM site WHERE wake > ? ORDER BY wake LIMIT 1"},
            {next_deadline_,
             "SELECT deadline FROM message WHERE deadline > ? ORDER BY deadline LIMIT 1"},
        });
  }

  Result<std::vector<Due>> sites(std::int64_t now, Due after, std::size_t most) override {
    Query query(due_sites_);
    query.bind(after.time).bind(now).bind(after.id).bind(static_cast<std::int64_t>(most));
    return query.rows(read_due);
  }

  Result<std::vector<Due>> domains(std::int64_t site, std::int64_t now, Due after,
                                   std::size_t most) override {
    Query query(due_domains_);
    query.bind(site).bind(after.time).bind(now).bind(after.id);
    query.bind(static_cast<std::int64_t>(most));
    return query.rows(read_due);
  }

  Result<std::vector<DueMessage>> messages(std::int64_t domain, std::int64_t now,
                                           const Leases& leases, std::size_t most,
                                           bool& more) override {
    std::unordered_set<std::int64_t> seen;
    const auto bind = [&](Query& query) { query.bind(domain).bind(now); };
    return read_messages(due_messages_, bind, before_all(), leases, most, seen, more);
  }

  Result<std::vector<DueMessage>> messages_of(std::int64_t domain, std::int64_t lane,
                                              std::int64_t now, const DueMessage& after,
                                              const Leases& leases, std::size_t most,
                                              std::unordered_set<std::int64_t>& seen) override {
    bool more = false;
    const auto bind = [&](Query& query) { query.bind(domain).bind(lane).bind(now); };
    return read_messages(due_of_lane_, bind, after, leases, most, seen, more);
  }

  Result<std::optional<Due>> next_lane(std::int64_t domain, std::int64_t after) override {
    Query query(next_lane_);
    auto row = query.bind(domain).bind(after).next();
    if (!row)
      return row.error();
    return *row ? std::optional(read_due(query)) : std::nullopt;
  }

  Result<std::int64_t> lane_of(const DueMessage& message) override {
    return Query(lane_).bind(message.id.value).bind(message.recipient).first(0);
  }

  Result<std::vector<mail::MessageId>> deadlines(std::int64_t now, std::size_t most,
                                                 bool& more) override {
    std::vector<mail::MessageId> due;
    auto done = Query(due_deadlines_).bind(now).for_each([&](const Query& row) {
      more = more || due.size() == most;
      if (due.size() < most)
        due.push_back({row.integer(0)});
      return !more;
    });
    if (!done)
      return done.error();
    return due;
  }

  Result<std::int64_t> next_in_domain(std::int64_t domain, std::int64_t now) override {
    return Query(next_in_domain_).bind(domain).bind(now).first(kNever);
  }

  Result<std::int64_t> next_in_site(std::int64_t site, std::int64_t now) override {
    return Query(next_in_site_).bind(site).bind(now).first(kNever);
  }

  Result<std::int64_t> next(std::int64_t now) override {
    std::int64_t next = kNever;
    for (Statement* statement : {&next_wake_, &next_deadline_}) {
      auto found = Query(*statement).bind(now).first(kNever);
      if (!found)
        return found.error();
      next = std::min(next, *found);
    }
    return next;
  }

 private:
  // Goes past a message that has many more there by a new search.
  template <class Bind>
  static Result<std::vector<DueMessage>> read_messages(Statement& statement, const Bind& bind,
                                                       DueMessage after, const Leases& leases,
                                                       std::size_t most,
                                                       std::unordered_set<std::int64_t>& seen,
                                                       bool& more) {
    constexpr int kMostPassed = 64;
    std::vector<DueMessage> due;
    for (bool goes_on = true; goes_on;) {
      goes_on = false;
      int passed = 0;
      Query query(statement);
      bind(query);
      query.bind(after.time).bind(after.id.value);
      auto done = query.for_each([&](const Query& row) {
        const DueMessage found{
            {row.integer(0)}, row.integer(2), static_cast<std::uint32_t>(row.integer(1))};
        if (seen.contains(found.id.value)) {
          goes_on = ++passed > kMostPassed;
          after = found;
          return !goes_on;
        }
        passed = 0;
        if (leases.is_leased(found.id, found.recipient))
          return true;
        if (due.size() == most) {
          more = true;
          return false;
        }
        seen.insert(found.id.value);
        due.push_back(found);
        return true;
      });
      if (!done)
        return done.error();
    }
    return due;
  }

  Statement due_sites_, due_domains_, due_messages_, due_of_lane_, next_lane_, lane_,
      due_deadlines_, next_in_domain_, next_in_site_, next_wake_, next_deadline_;
};

}  // namespace

Result<std::unique_ptr<DueIndex>> prepare_due(Database& database) {
  auto made = std::make_unique<SqliteDue>();
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<DueIndex>(std::move(made));
}

}  // namespace postrider::queue
