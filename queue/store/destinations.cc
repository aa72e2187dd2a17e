// Domains and sites: each keeps the earliest time of what is below it.
#include "base/assert.h"
#include "queue/row_codec.h"
#include "queue/store/sqlite_store.h"

#include <algorithm>
#include <unordered_map>

namespace postrider::queue {

namespace {

constexpr std::size_t kMostRemembered = 20'000;

template <class Map>
void limit(Map& map) {
  if (map.size() >= kMostRemembered)
    map.clear();
}

class SqliteDestinations final : public Destinations {
 public:
  Result<void> prepare(Database& database) {
    return prepare_all(
        database,
        {
            {domain_by_name_, "SELECT id, site, next_due FROM domain WHERE name = ?"},
            {domain_by_id_, "SELECT site, next_due, name FROM domain WHERE id = ?"},
            {insert_domain_,
             "INSERT INTO domain(name, site, next_due) VALUES(?, ?, {never}) RETURNING id"},
            {set_domain_due_, "UPDATE domain SET next_due = ? WHERE id = ?"},
            {set_domain_site_, "UPDATE domain SET site = ? WHERE id = ?"},
            {domain_minimum_,
             "SELECT next_attempt FROM recipient WHERE domain = ? AND state < {ended}"
             " ORDER BY next_attempt LIMIT 1"},
            {delete_domain_, "DELETE FROM domain WHERE id = ?"},
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
            {site_minimum_, "SELECT next_due FROM domain WHERE site = ? ORDER BY next_due LIMIT 1"},
            {troubled_sites_, "SELECT id FROM site WHERE failures > 0 OR blocked_until > 0"},
            {domains_of_, "SELECT id FROM domain WHERE site = ?"},
            {delete_site_, "DELETE FROM site WHERE id = ? AND id > 0 AND failures = 0"},
        });
  }

  Result<std::int64_t> domain_id(const std::string& name) override {
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

  Result<void> touch(std::int64_t id, std::int64_t due) override {
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

  Result<void> settle_domain(std::int64_t id) override {
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

  Result<void> settle_site(std::int64_t id) override {
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

  Result<bool> is_blocked(std::int64_t domain, std::int64_t now) override {
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

  Result<bool> is_in_trouble(std::int64_t domain) override {
    auto row = find_domain(domain);
    if (!row)
      return row.error();
    if (*row == nullptr || (*row)->site == 0)
      return false;
    auto site = find_site((*row)->site);
    if (!site)
      return site.error();
    return *site != nullptr && (*site)->failures > 0;
  }

  Result<std::vector<std::int64_t>> troubled_sites() override {
    auto sites = Query(troubled_sites_).rows([](const Query& row) { return row.integer(0); });
    has_blocked_sites_ = has_blocked_sites_ || (sites && !sites->empty());
    return sites;
  }

  Result<std::vector<std::int64_t>> domains_of(std::int64_t site) override {
    return Query(domains_of_).bind(site).rows([](const Query& row) { return row.integer(0); });
  }

  Result<std::int64_t> site_of(std::int64_t domain) override {
    auto row = find_domain(domain);
    if (!row)
      return row.error();
    return *row == nullptr ? 0 : (*row)->site;
  }

  Result<std::string> name_of(std::int64_t domain) override {
    auto row = find_domain(domain);
    if (!row)
      return row.error();
    return *row == nullptr ? std::string() : (*row)->name;
  }

  Result<std::string> site_trouble(std::int64_t domain) override {
    Query query(site_trouble_);
    query.bind(domain);
    auto row = query.next();
    if (!row)
      return row.error();
    return *row ? std::string(query.blob(0)) : std::string();
  }

  Result<SiteRow> load_site(std::int64_t id) override {
    auto found = find_site(id);
    if (!found)
      return found.error();
    return *found == nullptr ? SiteRow() : **found;
  }

  Result<std::int64_t> set_site(const SiteState& state, std::int64_t blocked_until) override {
    if (state.site.empty())
      return 0;
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
    has_blocked_sites_ = has_blocked_sites_ || blocked_until > 0 || state.failures > 0;
    const bool is_new_trouble = state.failures > 0 && (*site)->failures == 0;
    (*site)->blocked_until = blocked_until;
    (*site)->failures = state.failures;
    (*site)->wake = *minimum == kNever ? kNever : std::max(*minimum, blocked_until);
    const std::string last = encode_outcome(state.last);
    Query query(set_site_);
    query.bind((*site)->wake).bind(blocked_until).bind(state.failures);
    query.bind(state.since.time_since_epoch().count()).bind_blob(last).bind(*id);
    if (auto done = query.run(); !done)
      return done.error();
    if (state.failures == 0)
      if (auto done = remove_site_if_unused(*id); !done)
        return done.error();
    return is_new_trouble ? *id : 0;
  }

  Result<std::int64_t> assign_site(const std::string& name, const std::string& site_name) override {
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
        return 0;
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
      return 0;
    (*domain)->site = *site;
    const auto due = (*domain)->next_due;
    if (auto done = Query(set_domain_site_).bind(*site).bind(id).run(); !done)
      return done.error();
    if (due != kNever)
      if (auto done = touch_site(*site, due); !done)
        return done.error();
    return id;
  }

  bool has_blocked_sites() const override { return has_blocked_sites_; }

  bool is_known_blocked(const std::string& name, std::int64_t now) const override {
    const auto id = domain_ids_.find(name);
    if (id == domain_ids_.end())
      return false;
    const auto domain = domains_.find(id->second);
    if (domain == domains_.end())
      return false;
    const auto site = sites_.find(domain->second.site);
    return site != sites_.end() && site->second.blocked_until > now;
  }

  void forget() override {
    domain_ids_.clear();
    domains_.clear();
    sites_.clear();
  }

 private:
  struct DomainRow {
    std::int64_t site = 0;
    std::int64_t next_due = kNever;
    std::string name;
  };

  Result<DomainRow*> find_domain(std::int64_t id) {
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

  Result<SiteRow*> find_site(std::int64_t id) {
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

  Result<std::int64_t> site_id(const std::string& name) {
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

  Result<void> touch_site(std::int64_t id, std::int64_t due) {
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

  Result<std::int64_t> make_domain(const std::string& name) {
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

  // No living recipient refers to it. Rows of recipients at their end may; their domain is read
  // from the address. Its site is remembered for the next mail.
  Result<void> remove_domain(std::int64_t id, DomainRow row) {
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

  Result<std::int64_t> site_minimum(std::int64_t id) {
    Query query(site_minimum_);
    query.bind(id);
    return query.first(kNever);
  }

  Result<void> remove_site_if_unused(std::int64_t id) {
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

  // Remembered rows, each a copy of what is stored; emptied when they grow too many.
  std::unordered_map<std::string, std::int64_t> domain_ids_;
  std::unordered_map<std::int64_t, DomainRow> domains_;
  std::unordered_map<std::int64_t, SiteRow> sites_;
  bool has_blocked_sites_ = false;
  std::unordered_map<std::string, std::string> known_sites_;  // of domains without mail here
  Statement domain_by_name_, domain_by_id_, insert_domain_, set_domain_due_, set_domain_site_,
      domain_minimum_, delete_domain_, site_trouble_, site_by_name_, site_name_, site_by_id_,
      insert_site_, set_site_wake_, set_site_, site_minimum_, troubled_sites_, domains_of_,
      delete_site_;
};

}  // namespace

Result<std::unique_ptr<Destinations>> prepare_destinations(Database& database) {
  auto made = std::make_unique<SqliteDestinations>();
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<Destinations>(std::move(made));
}

}  // namespace postrider::queue
