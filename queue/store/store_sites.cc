// Domains and sites: each keeps the earliest time of what is below it.
#include "base/assert.h"
#include "queue/row_codec.h"
#include "queue/store/store.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::size_t kMostRemembered = 20'000;

template <class Map>
void limit(Map& map) {
  if (map.size() >= kMostRemembered)
    map.clear();
}

}  // namespace

void Store::forget() {
  domain_ids_.clear();
  domains_.clear();
  sites_.clear();
}

Result<std::int64_t> Store::domain_id(const std::string& name) {
  if (const auto known = domain_ids_.find(name); known != domain_ids_.end())
    return known->second;
  limit(domain_ids_);
  limit(domains_);
  Query find(domain_by_name_);
  find.bind_text(name);
  auto row = find.next();
  if (!row)
    return row.error();
  if (!*row)
    return make_domain(name);
  const auto id = find.integer(0);
  domains_[id] = {find.integer(1), find.integer(2), name};
  return domain_ids_[name] = id;
}

Result<std::int64_t> Store::make_domain(const std::string& name) {
  std::int64_t site = 0;
  if (const auto known = known_sites_.find(name); known != known_sites_.end()) {
    auto found = site_id(known->second);
    if (!found)
      return found.error();
    site = *found;
  }
  Query insert(insert_domain_);
  auto made = insert.bind_text(name).bind(site).next();
  if (!made)
    return made.error();
  const auto id = insert.integer(0);
  domains_[id] = {site, kNever, name};
  return domain_ids_[name] = id;
}

Result<Store::DomainRow*> Store::find_domain(std::int64_t id) {
  if (const auto known = domains_.find(id); known != domains_.end())
    return &known->second;
  limit(domains_);
  Query query(domain_by_id_);
  query.bind(id);
  auto row = query.next();
  if (!row)
    return row.error();
  if (!*row)
    return static_cast<DomainRow*>(nullptr);
  DomainRow& kept = domains_[id];
  kept = {query.integer(0), query.integer(1), std::string(query.text(2))};
  return &kept;
}

Result<SiteRow*> Store::find_site(std::int64_t id) {
  if (const auto known = sites_.find(id); known != sites_.end())
    return &known->second;
  limit(sites_);
  Query query(site_by_id_);
  query.bind(id);
  auto row = query.next();
  if (!row)
    return row.error();
  if (!*row)
    return static_cast<SiteRow*>(nullptr);
  SiteRow& kept = sites_[id];
  kept = {query.integer(0), query.integer(1), static_cast<std::uint32_t>(query.integer(2))};
  return &kept;
}

Result<SiteRow> Store::load_site(std::int64_t id) {
  auto found = find_site(id);
  if (!found)
    return found.error();
  return *found == nullptr ? SiteRow() : **found;
}

Result<std::int64_t> Store::site_id(const std::string& name) {
  Query find(site_by_name_);
  find.bind_text(name);
  auto row = find.next();
  if (!row)
    return row.error();
  if (*row)
    return find.integer(0);
  Query insert(insert_site_);
  auto made = insert.bind_text(name).next();
  if (!made)
    return made.error();
  return insert.integer(0);
}

Result<void> Store::touch(std::int64_t id, std::int64_t due) {
  auto domain = find_domain(id);
  if (!domain)
    return domain.error();
  if (*domain == nullptr)
    return {};  // a damaged row: its deadline remains
  const auto site = (*domain)->site;
  if (due < (*domain)->next_due) {
    if (auto done = Query(set_domain_due_).bind(due).bind(id).run(); !done)
      return done.error();
    (*domain)->next_due = due;
  }
  return touch_site(site, due);
}

Result<void> Store::touch_site(std::int64_t id, std::int64_t due) {
  auto site = find_site(id);
  if (!site)
    return site.error();
  if (*site == nullptr)
    return {};
  const auto wake = std::max(due, (*site)->blocked_until);
  if (wake >= (*site)->wake)
    return {};
  (*site)->wake = wake;
  return Query(set_site_wake_).bind(wake).bind(id).run();
}

Result<void> Store::settle_domain(std::int64_t id) {
  auto domain = find_domain(id);
  if (!domain)
    return domain.error();
  if (*domain == nullptr)
    return {};
  std::int64_t minimum = kNever;
  {
    Query query(domain_minimum_);
    query.bind(id);
    auto row = query.next();
    if (!row)
      return row.error();
    if (!*row)
      return remove_domain(id, **domain);
    minimum = query.integer(0);
  }
  if (minimum == (*domain)->next_due)
    return {};
  (*domain)->next_due = minimum;
  return Query(set_domain_due_).bind(minimum).bind(id).run();
}

Result<std::int64_t> Store::next_in_domain(std::int64_t domain, std::int64_t now) {
  return first_after(next_in_domain_, domain, now);
}

Result<std::int64_t> Store::next_in_site(std::int64_t site, std::int64_t now) {
  return first_after(next_in_site_, site, now);
}

Result<std::int64_t> Store::first_after(Statement& statement, std::int64_t key, std::int64_t now) {
  Query query(statement);
  query.bind(key).bind(now);
  return query.first(kNever);
}

// No living recipient refers to it. Rows of recipients at their end may; their domain is read from
// the address. Its site is remembered for the next mail.
Result<void> Store::remove_domain(std::int64_t id, DomainRow row) {
  if (auto done = Query(delete_domain_).bind(id).run(); !done)
    return done.error();
  domains_.erase(id);
  domain_ids_.erase(row.name);
  if (row.site == 0)
    return {};
  {
    Query name(site_name_);
    name.bind(row.site);
    auto found = name.next();
    if (!found)
      return found.error();
    limit(known_sites_);
    if (*found)
      known_sites_[row.name] = name.text(0);
  }
  return remove_site_if_unused(row.site);
}

Result<void> Store::remove_site_if_unused(std::int64_t id) {
  {
    Query query(site_minimum_);  // also finds a domain whose mail is all held
    query.bind(id);
    auto row = query.next();
    if (!row)
      return row.error();
    if (*row)
      return {};
  }
  if (auto done = Query(delete_site_).bind(id).run(); !done)
    return done.error();
  sites_.erase(id);
  return {};
}

Result<std::int64_t> Store::site_minimum(std::int64_t id) {
  Query query(site_minimum_);
  query.bind(id);
  return query.first(kNever);
}

Result<void> Store::settle_site(std::int64_t id) {
  auto site = find_site(id);
  if (!site)
    return site.error();
  if (*site == nullptr)
    return {};
  auto minimum = site_minimum(id);
  if (!minimum)
    return minimum.error();
  const auto wake = *minimum == kNever ? kNever : std::max(*minimum, (*site)->blocked_until);
  if (wake == (*site)->wake)
    return {};
  (*site)->wake = wake;
  return Query(set_site_wake_).bind(wake).bind(id).run();
}

Result<bool> Store::is_blocked(std::int64_t domain, std::int64_t now) {
  auto row = find_domain(domain);
  if (!row)
    return row.error();
  if (*row == nullptr)
    return false;
  auto site = find_site((*row)->site);
  if (!site)
    return site.error();
  return *site != nullptr && (*site)->blocked_until > now;
}

Result<std::int64_t> Store::site_of(std::int64_t domain) {
  auto row = find_domain(domain);
  if (!row)
    return row.error();
  return *row == nullptr ? 0 : (*row)->site;
}

bool Store::is_known_blocked(const std::string& name, std::int64_t now) const {
  const auto id = domain_ids_.find(name);
  if (id == domain_ids_.end())
    return false;
  const auto domain = domains_.find(id->second);
  if (domain == domains_.end())
    return false;
  const auto site = sites_.find(domain->second.site);
  return site != sites_.end() && site->second.blocked_until > now;
}

Result<void> Store::set_site(const SiteState& state, std::int64_t blocked_until) {
  if (state.site.empty())
    return {};
  auto id = site_id(state.site);
  if (!id)
    return id.error();
  auto site = find_site(*id);
  if (!site)
    return site.error();
  auto minimum = site_minimum(*id);
  if (!minimum)
    return minimum.error();
  POSTRIDER_ASSERT(*site != nullptr);
  has_blocked_sites_ = has_blocked_sites_ || blocked_until > 0;
  (*site)->blocked_until = blocked_until;
  (*site)->failures = state.failures;
  (*site)->wake = *minimum == kNever ? kNever : std::max(*minimum, blocked_until);
  const std::string last = encode_outcome(state.last);
  Query query(set_site_);
  query.bind((*site)->wake).bind(blocked_until).bind(state.failures);
  query.bind(state.since.time_since_epoch().count()).bind_blob(last).bind(*id);
  if (auto done = query.run(); !done)
    return done.error();
  return state.failures == 0 ? remove_site_if_unused(*id) : Result<void>();
}

Result<void> Store::assign_site(const std::string& name, const std::string& site_name) {
  const auto known = domain_ids_.find(name);
  std::int64_t id = 0;
  if (known != domain_ids_.end()) {
    id = known->second;
  } else {
    Query find(domain_by_name_);
    find.bind_text(name);
    auto row = find.next();
    if (!row)
      return row.error();
    if (!*row) {
      limit(known_sites_);
      known_sites_[name] = site_name;
      return {};
    }
    id = find.integer(0);
  }
  auto site = site_id(site_name);
  if (!site)
    return site.error();
  auto domain = find_domain(id);
  if (!domain)
    return domain.error();
  if (*domain == nullptr || (*domain)->site == *site)
    return {};
  (*domain)->site = *site;
  const auto due = (*domain)->next_due;
  if (auto done = Query(set_domain_site_).bind(*site).bind(id).run(); !done)
    return done.error();
  return due == kNever ? Result<void>() : touch_site(*site, due);
}

}  // namespace postrider::queue
