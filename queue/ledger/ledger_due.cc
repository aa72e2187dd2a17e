// What is handed out when: due work in the order of its time, fairly among sites and domains.
//
// Each domain has at most settings.leased_per_domain messages out, each site at most as many as
// are still free: one slow site takes at most half of all, two a third each, so there is always
// room for one that was idle. A site that failed gets one probe.
#include "queue/ledger/ledger.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::size_t kPage = 256;
// Handed out in one transaction: reading them must not keep new mail waiting, nor the first of them
// in delivery's hands wait for the last.
constexpr std::size_t kAtOnce = 128;
constexpr Duration kPause = std::chrono::seconds(1);
constexpr Duration kUnreadable = std::chrono::seconds(30);  // before content is looked for again

}  // namespace

bool Ledger::has_room(const Budget& budget) const {
  const auto usage = leases.due();
  return usage.messages < std::min(budget.messages, budget.now) && usage.bytes < budget.bytes;
}

Result<void> Ledger::lease_due(Effects& effects) {
  look_again_ = false;
  stopped_at_limit_ = false;
  wanting_domains_.clear();
  wanting_sites_.clear();
  next_due_ = kNever;
  drop_pauses();
  if (auto done = hold_what_is_damaged(effects); !done)
    return done.error();
  Budget budget{settings.leased_messages, settings.leased_bytes, leases.due().messages + kAtOnce};
  if (steady_now < ramp_until) {
    // After an unclean stop: a crash loop must not hammer anybody. Doubles every second.
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(ramp_until - steady_now);
    budget.messages = std::max<std::size_t>(budget.messages >> std::min<long>(left.count(), 6), 1);
  }
  if (auto done = lease_deadlines(budget, effects); !done)
    return done.error();
  DueIndex::Due after{-1, std::numeric_limits<std::int64_t>::min()};
  for (bool more = true; more;) {
    auto sites = store->due().sites(now(), after, kPage);
    if (!sites)
      return sites.error();
    more = sites->size() == kPage;
    for (const auto& site : *sites) {
      if (!has_room(budget)) {
        stopped_at_limit_ = true;
        more = false;
        break;
      }
      after = site;
      if (auto done = lease_site(site.id, budget, effects); !done)
        return done.error();
    }
  }
  if (leases.due().messages >= budget.now)
    look_again_ = true;  // the rest in the next transaction, with what came in meanwhile
  auto next = store->due().next(now());
  if (!next)
    return next.error();
  expect(*next);
  if ((stopped_at_limit_ && steady_now < ramp_until) || !paused_.empty())
    expect(now() + kPause.count());
  return {};
}

// How many more may go out where `out` are: while no more are out there than are free in all.
std::size_t Ledger::share(const Budget& budget, std::size_t out, bool is_probed) const {
  const auto used = leases.due().messages;
  const auto free = budget.messages > used ? budget.messages - used : 0;
  if (is_probed)
    return out == 0 && free > 0 ? 1 : 0;
  return free > out ? (free - out + 1) / 2 : 0;
}

Result<void> Ledger::lease_site(std::int64_t site, Budget& budget, Effects& effects) {
  auto row = store->destinations().load_site(site);
  if (!row)
    return row.error();
  DueIndex::Due after{-1, std::numeric_limits<std::int64_t>::min()};
  for (bool more = true; more;) {
    auto domains = store->due().domains(site, now(), after, kPage);
    if (!domains)
      return domains.error();
    more = domains->size() == kPage;
    for (const auto& domain : *domains) {
      after = domain;
      const auto out_of_domain = leases.of_domain(domain.id);
      const auto of_domain = settings.leased_per_domain > out_of_domain
                                 ? settings.leased_per_domain - out_of_domain
                                 : 0;
      // Site 0 stands for all domains whose site is not known yet: each on its own.
      const auto out = site == 0 ? out_of_domain : leases.of_site(site);
      const auto of_site = share(budget, out, row->failures > 0);
      if (!has_room(budget)) {
        stopped_at_limit_ = true;
        return {};
      }
      if (of_site == 0) {
        stopped_at_limit_ = true;
        (site == 0 ? wanting_domains_ : wanting_sites_)[site == 0 ? domain.id : site] = out;
        if (site == 0)
          continue;
        return {};
      }
      if (is_paused(domain.id))
        continue;
      // Refill by halves, so that looking past what is out costs little for each message.
      if (of_domain < (settings.leased_per_domain + 1) / 2 && out_of_domain > 0) {
        wanting_domains_[domain.id] = out_of_domain;
        continue;
      }
      if (auto done = lease_domain(site, domain.id, std::min(of_domain, of_site), budget, effects);
          !done)
        return done.error();
    }
  }
  // As with domains below: what is due later must not wait for what is out.
  auto later = store->due().next_in_site(site, now());
  if (!later)
    return later.error();
  expect(std::max(*later, row->blocked_until));
  return store->destinations().settle_site(site);
}

Result<void> Ledger::lease_domain(std::int64_t site, std::int64_t domain, std::size_t most,
                                  Budget& budget, Effects& effects) {
  bool more = false;
  auto due = store->due().messages(domain, now(), leases, most, more);
  if (!due)
    return due.error();
  for (const auto id : *due) {
    if (!has_room(budget)) {
      more = true;
      break;
    }
    if (auto done = lease_message(id, effects); !done)
      return done.error();
  }
  if (more) {
    wanting_domains_[domain] = leases.of_domain(domain);
    wanting_sites_[site] = leases.of_site(site);
  }
  if (due->empty() && leases.of_domain(domain) == 0)
    return store->destinations().settle_domain(domain);
  // The kept time stays while something is out: it covers what is leased, in case we are killed.
  // What is due later must not wait for that.
  auto later = store->due().next_in_domain(domain, now());
  if (!later)
    return later.error();
  expect(*later);
  return {};
}

Result<StoredMessage> Ledger::load_checked(mail::MessageId id) {
  auto message = store->messages().load(id);
  if (!message || message->message->content.file.empty())
    return message;
  auto file = spool_.open_body(*message->message);
  if (!file)
    return file.error();
  return message;
}

// Damage holds the message. What passes (no descriptors left, a folder closed by mistake) lets it
// wait, without harm to the rest; only what else the database says fails the transaction.
Result<void> Ledger::hold_or_wait(mail::MessageId id, const Error& error, Effects& effects) {
  if (error.code() == Errc::corrupt)
    return hold_damaged(id, error.describe(), effects);
  if (is_damage(error)) {
    damaged_.emplace(id.value, error.describe());
    found_damage_ = true;
    return error;
  }
  if (is_of_store(error))
    return error;
  return postpone(id, error);
}

Result<void> Ledger::hold_damaged(mail::MessageId id, const std::string& why, Effects& effects) {
  auto done = quarantine(id, why, effects);
  if (!done && is_damage(done.error()))
    return pass_over(id, done.error());
  return done;
}

// Where nothing can be stored of a message, because its rows stand on the damaged page, it stays as
// it is until the next start.
Error Ledger::pass_over(mail::MessageId id, const Error& error) {
  log_.write(LogEvent(Level::error, "passed_over", to_string(id)).add("reason", error.describe()));
  passed_over_.insert(id.value);
  damaged_.erase(id.value);
  found_damage_ = true;
  return error;
}

Result<void> Ledger::hold_what_is_damaged(Effects& effects) {
  const auto known = damaged_;
  for (const auto& [id, why] : known)
    if (auto done = hold_damaged({id}, why, effects); !done)
      return done.error();
  return {};
}

Result<void> Ledger::postpone(mail::MessageId id, const Error& error) {
  log_.write(
      LogEvent(Level::warn, "content_unreadable", to_string(id)).add("reason", error.describe()));
  auto row = store->messages().load_row(id);
  if (!row || !row->has_value())
    return row ? Result<void>() : row.error();
  auto alive = store->messages().load_alive(id);
  if (!alive)
    return alive.error();
  const auto later = now() + kUnreadable.count();
  for (auto& recipient : *alive) {
    if (recipient.state != RecipientState::queued || recipient.next_attempt > now())
      continue;
    recipient.next_attempt = later;
    if (auto done = store->messages().update_recipient(id, recipient); !done)
      return done.error();
  }
  expect(later);
  if ((*row)->deadline > now())
    return {};
  return store->messages().set_deadline(id, later);
}

// What is in hand for other recipients already need not be read again.
Result<StoredMessage> Ledger::load_leased(mail::MessageId id) {
  const auto* other = leases.find(id);
  if (other != nullptr && other->message->content.bytes)
    return StoredMessage{other->message, std::nullopt};
  return load_checked(id);
}

// For all its recipients who are due, wherever they are.
Result<void> Ledger::lease_message(mail::MessageId id, Effects& effects) {
  if (passed_over_.contains(id.value))
    return {};
  auto alive = store->messages().load_alive(id);
  if (!alive)
    return hold_or_wait(id, alive.error(), effects);
  Leased leased;
  std::vector<Lease::Recipient> recipients;
  for (const auto& row : *alive) {
    if (row.state != RecipientState::queued || row.next_attempt > now() || is_paused(row.domain) ||
        leases.is_leased(id, row.index))
      continue;
    auto blocked = store->destinations().is_blocked(row.domain, now());
    if (!blocked)
      return blocked.error();
    if (*blocked)
      continue;
    auto its_site = store->destinations().site_of(row.domain);
    if (!its_site)
      return its_site.error();
    recipients.push_back({row.index, row.attempts, std::nullopt});
    leased.recipients.push_back(row.index);
    leased.places.push_back({row.domain, *its_site});
  }
  if (recipients.empty())
    return {};
  auto message = load_leased(id);
  if (!message)
    return hold_or_wait(id, message.error(), effects);
  if (recipients.back().index >= message->message->envelope.recipients.size())
    return quarantine(id, "recipients beyond the envelope", effects);
  leased.reason = Lease::Reason::due;
  leased.message = message->message;
  if (message->checksum && !message->message->content.file.empty())
    effects.checks.push_back({id, *message->checksum});
  hand_out(std::move(leased), std::move(recipients), effects);
  return {};
}

// Called after the lease, or a part of it, has ended. Hysteresis: a look passes over what is out,
// so it must pay.
void Ledger::look_again_after(const Leased& leased) {
  if (leased.reason == Lease::Reason::fresh)
    return;
  const auto used = leases.due();
  if (stopped_at_limit_ && used.messages <= settings.leased_messages / 4 * 3 &&
      used.bytes <= settings.leased_bytes / 4 * 3)
    look_again_ = true;
  const auto is_half_done = [](const auto& wanting, std::int64_t key, std::size_t out) {
    const auto at = wanting.find(key);
    return at != wanting.end() && out <= at->second / 2;
  };
  for (const auto& place : leased.places)
    if (is_half_done(wanting_sites_, place.site, leases.of_site(place.site)) ||
        is_half_done(wanting_domains_, place.domain, leases.of_domain(place.domain)))
      look_again_ = true;
}

void Ledger::pause(const Record& record, const Leased& leased) {
  if (record.untried.empty() || leased.places.empty())
    return;
  for (const auto index : record.untried) {
    const auto at = std::lower_bound(leased.recipients.begin(), leased.recipients.end(), index);
    if (at == leased.recipients.end() || *at != index)
      continue;
    const auto place = static_cast<std::size_t>(at - leased.recipients.begin());
    paused_[leased.places[place].domain] = steady_now + kPause;
  }
  expect(now() + kPause.count());
}

bool Ledger::is_paused(std::int64_t domain) const {
  return !paused_.empty() && paused_.contains(domain);
}

void Ledger::drop_pauses() {
  std::erase_if(paused_, [this](const auto& entry) { return entry.second <= steady_now; });
}

void Ledger::hand_out(Leased leased, std::vector<Lease::Recipient> recipients, Effects& effects) {
  leased.number = ++last_lease_;
  effects.leases.push_back({leased.reason, leased.message, std::move(recipients)});
  leases.add(std::move(leased));
}

}  // namespace postrider::queue
