// What is due, by index.
#include "queue/store/store.h"

#include <unordered_set>

namespace postrider::queue {

namespace {

Store::Due read_due(const Query& row) {
  return {row.integer(0), row.integer(1)};
}

}  // namespace

Result<void> Store::prepare_due() {
  return prepare_all(
      database_,
      {
          {domain_by_name_, "SELECT id, site, next_due FROM domain WHERE name = ?"},
          {domain_by_id_, "SELECT site, next_due, name FROM domain WHERE id = ?"},
          {insert_domain_,
           "INSERT INTO domain(name, site, next_due) VALUES(?, ?, {never}) RETURNING id"},
          {set_domain_due_, "UPDATE domain SET next_due = ? WHERE id = ?"},
          {set_domain_site_, "UPDATE domain SET site = ? WHERE id = ?"},
          {site_trouble_,
           "SELECT s.last FROM domain d JOIN site s ON s.id = d.site"
           " WHERE d.id = ? AND s.failures > 0"},
          {site_by_name_, "SELECT id FROM site WHERE name = ?"},
          {site_name_, "SELECT name FROM site WHERE id = ?"},
          {site_by_id_, "SELECT wake, blocked_until, failures FROM site WHERE id = ?"},
          {insert_site_,
           "INSERT INTO site(name, wake, blocked_until, failures, since, last)"
           " VALUES(?, {never}, 0, 0, 0, NULL) RETURNING id"},
          {set_site_wake_, "UPDATE site SET wake = ? WHERE id = ?"},
          {set_site_,
           "UPDATE site SET wake = ?, blocked_until = ?, failures = ?, since = ?, last = ?"
           " WHERE id = ?"},
          {due_sites_,
           "SELECT id, wake FROM site WHERE wake >= ?1 AND wake <= ?2 AND (wake > ?1 OR id > ?3)"
           " ORDER BY wake, id LIMIT ?4"},
          {due_domains_,
           "SELECT id, next_due FROM domain WHERE site = ?1 AND next_due >= ?2 AND next_due <= ?3"
           " AND (next_due > ?2 OR id > ?4) ORDER BY next_due, id LIMIT ?5"},
          {due_messages_,
           "SELECT message, idx FROM recipient WHERE domain = ? AND next_attempt <= ? AND state < "
           "{ended}"
           " ORDER BY next_attempt, message"},
          {due_deadlines_, "SELECT id FROM message WHERE deadline <= ? ORDER BY deadline, id"},
          {set_deadline_, "UPDATE message SET deadline = ? WHERE id = ?"},
          {domain_minimum_,
           "SELECT next_attempt FROM recipient WHERE domain = ? AND state < {ended}"
           " ORDER BY next_attempt LIMIT 1"},
          {next_in_domain_,
           "SELECT next_attempt FROM recipient WHERE domain = ? AND next_attempt > ? AND state < "
           "{ended}"
           " ORDER BY next_attempt LIMIT 1"},
          {next_in_site_,
           "SELECT next_due FROM domain WHERE site = ? AND next_due > ? ORDER BY next_due LIMIT 1"},
          {site_minimum_, "SELECT next_due FROM domain WHERE site = ? ORDER BY next_due LIMIT 1"},
          {next_wake_, "SELECT wake FROM site WHERE wake > ? ORDER BY wake LIMIT 1"},
          {next_deadline_,
           "SELECT deadline FROM message WHERE deadline > ? ORDER BY deadline LIMIT 1"},
          {delete_domain_, "DELETE FROM domain WHERE id = ?"},
          {delete_site_, "DELETE FROM site WHERE id = ? AND id > 0 AND failures = 0"},
      });
}

Result<std::string> Store::site_trouble(std::int64_t domain) {
  Query query(site_trouble_);
  query.bind(domain);
  auto row = query.next();
  if (!row)
    return row.error();
  return *row ? std::string(query.blob(0)) : std::string();
}

Result<std::vector<Store::Due>> Store::due_sites(std::int64_t now, Due after, std::size_t most) {
  Query query(due_sites_);
  query.bind(after.time).bind(now).bind(after.id).bind(static_cast<std::int64_t>(most));
  return query.rows(read_due);
}

Result<std::vector<Store::Due>> Store::due_domains(std::int64_t site, std::int64_t now, Due after,
                                                   std::size_t most) {
  Query query(due_domains_);
  query.bind(site).bind(after.time).bind(now).bind(after.id);
  query.bind(static_cast<std::int64_t>(most));
  return query.rows(read_due);
}

Result<std::vector<mail::MessageId>> Store::due_messages(std::int64_t domain, std::int64_t now,
                                                         const Leases& leases, std::size_t most,
                                                         bool& more) {
  std::vector<mail::MessageId> due;
  std::unordered_set<std::int64_t> seen;
  auto done = Query(due_messages_).bind(domain).bind(now).for_each([&](const Query& row) {
    const mail::MessageId id{row.integer(0)};
    if (seen.contains(id.value) || leases.is_leased(id, static_cast<std::uint32_t>(row.integer(1))))
      return true;
    if (due.size() == most) {
      more = true;
      return false;
    }
    seen.insert(id.value);
    due.push_back(id);
    return true;
  });
  if (!done)
    return done.error();
  return due;
}

Result<std::vector<mail::MessageId>> Store::due_deadlines(std::int64_t now, std::size_t most,
                                                          bool& more) {
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

Result<void> Store::set_deadline(mail::MessageId id, std::int64_t deadline) {
  return Query(set_deadline_).bind(deadline).bind(id.value).run();
}

Result<std::int64_t> Store::next_due(std::int64_t now) {
  std::int64_t next = kNever;
  for (Statement* statement : {&next_wake_, &next_deadline_}) {
    auto found = Query(*statement).bind(now).first(kNever);
    if (!found)
      return found.error();
    next = std::min(next, *found);
  }
  return next;
}

}  // namespace postrider::queue
