#include "queue/ledger/leasing.h"

#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::size_t kDuePage = 256;
// Handed out in one transaction: reading them must not keep new mail waiting, nor the first of them
// in delivery's hands wait for the last.
constexpr std::size_t kAtOnce = 128;
// Recipients of one message that are out at one time: as a whole, and of a domain.
constexpr std::size_t kMostOut = 10 * kMostTogether;
constexpr std::size_t kMostOutOfDomain = 2 * kMostTogether;
constexpr std::size_t kMostKnownLarge = 4096;
constexpr Duration kUntriedRest = std::chrono::seconds(1);
// Mail of a paused sender is looked at again after so long, should its end pass unnoticed.
constexpr Duration kParked = std::chrono::hours(4);

RetryTally tally_of(const RecipientRow& row) {
  RetryTally tally;
  if (!row.last.empty() && !decode_outcome(row.last, &tally))
    return {};
  return tally;
}

}  // namespace

bool Leasing::has_room(const Budget& budget) const {
  const auto usage = state_.leases.due();
  return usage.messages < std::min(budget.messages, budget.now) && usage.bytes < budget.bytes &&
         parked_ < kAtOnce && left_of_large_ > 0;
}

Result<void> Leasing::lease_due(Effects& effects) {
  look_.begin();
  stopped_at_limit_ = false;
  wanting_domains_.clear();
  wanting_sites_.clear();
  wanting_large_.clear();
  parts_.clear();
  left_of_large_ = kMostTogether;
  end_rests();
  parked_ = 0;
  if (auto done = pausing_.end_due(effects); !done)
    return done.error().during("end a pause");
  if (auto done = damaged_.hold_known(effects); !done)
    return done.error();
  Budget budget{state_.settings.leased_messages, state_.settings.leased_bytes,
                state_.leases.due().messages + kAtOnce};
  if (state_.steady_now < state_.ramp_until) {
    // After an unclean stop: a crash loop must not hammer anybody. Doubles every second.
    const auto left =
        std::chrono::duration_cast<std::chrono::seconds>(state_.ramp_until - state_.steady_now);
    budget.messages = std::max<std::size_t>(budget.messages >> std::min<long>(left.count(), 6), 1);
  }
  if (auto done = lease_deadlines(budget, effects); !done)
    return done.error();
  DueIndex::Due after{-1, std::numeric_limits<std::int64_t>::min()};
  for (bool more = !state_.pauses.has_all(); more;) {
    auto sites = state_.store->due().sites(state_.now(), after, kDuePage);
    if (!sites)
      return sites.error();
    more = sites->size() == kDuePage;
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
  if (auto done = lease_parts(effects); !done)
    return done.error();
  look_.expect(state_.pauses.next_end());
  if (state_.leases.due().messages >= budget.now || parked_ > 0 || left_of_large_ == 0)
    look_.at_once();  // the rest in the next transaction, with what came in meanwhile
  auto next = state_.store->due().next(state_.now());
  if (!next)
    return next.error();
  look_.expect(*next);
  if ((stopped_at_limit_ && state_.steady_now < state_.ramp_until) || !resting_.empty())
    look_.expect(state_.now() + kUntriedRest.count());
  return {};
}

// How many more may go out where `out` are: while no more are out there than are free in all.
std::size_t Leasing::share(const Budget& budget, std::size_t out, bool is_probed) const {
  const auto used = state_.leases.due().messages;
  const auto free = budget.messages > used ? budget.messages - used : 0;
  if (is_probed)
    return out == 0 && free > 0 ? 1 : 0;
  return free > out ? (free - out + 1) / 2 : 0;
}

Result<void> Leasing::lease_site(std::int64_t site, Budget& budget, Effects& effects) {
  auto row = state_.store->destinations().load_site(site);
  if (!row)
    return row.error();
  DueIndex::Due after{-1, std::numeric_limits<std::int64_t>::min()};
  for (bool more = true; more;) {
    auto domains = state_.store->due().domains(site, state_.now(), after, kDuePage);
    if (!domains)
      return domains.error();
    more = domains->size() == kDuePage;
    for (const auto& domain : *domains) {
      after = domain;
      const auto out_of_domain = state_.leases.of_domain(domain.id);
      const auto of_domain = state_.settings.leased_per_domain > out_of_domain
                                 ? state_.settings.leased_per_domain - out_of_domain
                                 : 0;
      // Site 0 stands for all domains whose site is not known yet: each on its own.
      const auto out = site == 0 ? out_of_domain : state_.leases.of_site(site);
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
      auto paused = is_paused(domain.id);
      if (!paused)
        return paused.error();
      if (*paused || is_resting(domain.id))
        continue;
      if (of_domain == 0) {
        wanting_domains_[domain.id] = out_of_domain;
        continue;
      }
      if (auto done = lease_domain(site, domain.id, std::min(of_domain, of_site), budget, effects);
          !done)
        return done.error();
    }
  }
  // As with domains below: what is due later must not wait for what is out.
  auto later = state_.store->due().next_in_site(site, state_.now());
  if (!later)
    return later.error();
  look_.expect(std::max(*later, row->blocked_until));
  return state_.store->destinations().settle_site(site);
}

Result<void> Leasing::lease_domain(std::int64_t site, std::int64_t domain, std::size_t most,
                                   Budget& budget, Effects& effects) {
  const auto of_transaction = budget.now - std::min(budget.now, state_.leases.due().messages);
  auto due = lanes_.choose(domain, std::min(most, of_transaction));
  if (!due)
    return due.error();
  for (const auto& one : due->messages) {
    if (!has_room(budget)) {
      due->more = true;
      break;
    }
    if (auto done = lease_message(one, domain, effects); !done)
      return done.error();
  }
  if (due->more) {
    wanting_domains_[domain] = state_.leases.of_domain(domain);
    wanting_sites_[site] = state_.leases.of_site(site);
  }
  // What is due later must not wait for what is out: the kept time stays while something is, since
  // it covers what is leased, in case we are killed. So it does where all that is due is out by a
  // lease that counts nowhere, the rest of a fresh one.
  auto later = state_.store->due().next_in_domain(domain, state_.now());
  if (!later)
    return later.error();
  look_.expect(*later);
  if (due->messages.empty() && state_.leases.of_domain(domain) == 0)
    return state_.store->destinations().settle_domain(domain);
  return {};
}

Result<StoredMessage> Leasing::load_checked(mail::MessageId id) {
  auto message = state_.store->messages().load(id);
  if (!message || message->message->content.file.empty())
    return message;
  auto file = state_.spool.open_body(*message->message);
  if (!file)
    return file.error();
  return message;
}

// What is in hand for other recipients already need not be read again.
Result<StoredMessage> Leasing::load_leased(mail::MessageId id) {
  const auto* other = state_.leases.find(id);
  if (other != nullptr && (other->message->content.bytes || is_large(*other->message)))
    return StoredMessage{other->message, std::nullopt};
  return load_checked(id);
}

// For all its recipients who are due, wherever they are; of very many only for those of the domain.
Result<void> Leasing::lease_message(const DueIndex::DueMessage& due, std::int64_t domain,
                                    Effects& effects) {
  const auto id = due.id;
  if (damaged_.is_passed_over(id))
    return {};
  if (large_.contains(id.value))
    return take_part(due, domain, effects);
  auto alive = state_.store->messages().load_alive(id, 0, kMostTogether + 1);
  if (!alive)
    return damaged_.hold_or_wait(id, alive.error(), effects);
  if (alive->size() > kMostTogether) {
    if (large_.size() >= kMostKnownLarge)
      large_.clear();
    large_.insert(id.value);
    return take_part(due, domain, effects);
  }
  if (state_.pauses.has_senders()) {
    auto sender = state_.store->messages().sender(id);
    if (!sender)
      return sender.error();
    if (const auto* pause = state_.pauses.of_sender(*sender))
      return park(id, *alive, *pause);
  }
  Leased leased;
  std::vector<Lease::Recipient> recipients;
  for (const auto& row : *alive) {
    if (row.state != RecipientState::queued || row.next_attempt > state_.now() ||
        is_resting(row.domain) || state_.leases.is_leased(id, row.index))
      continue;
    auto paused = is_paused(row.domain);
    if (!paused)
      return paused.error();
    if (*paused)
      continue;
    auto blocked = state_.store->destinations().is_blocked(row.domain, state_.now());
    if (!blocked)
      return blocked.error();
    if (*blocked)
      continue;
    auto its_site = state_.store->destinations().site_of(row.domain);
    if (!its_site)
      return its_site.error();
    auto name = state_.store->destinations().name_of(row.domain);
    if (!name)
      return name.error();
    recipients.push_back({row.index, row.attempts, std::nullopt,
                          is_next_hop(*name) ? *std::move(name) : std::string(), tally_of(row)});
    leased.recipients.push_back(row.index);
    leased.places.push_back({row.domain, *its_site, row.lane});
  }
  if (recipients.empty())
    return {};
  auto message = load_leased(id);
  if (!message)
    return damaged_.hold_or_wait(id, message.error(), effects);
  if (recipients.back().index >= message->message->envelope.recipients.size())
    return damaged_.quarantine(id, "recipients beyond the envelope", effects);
  leased.reason = Lease::Reason::due;
  leased.message = message->message;
  if (message->checksum && !message->message->content.file.empty())
    effects.checks.push_back({id, *message->checksum});
  state_.hand_out(std::move(leased), std::move(recipients), effects);
  return {};
}

Result<Leasing::Part*> Leasing::part_of(mail::MessageId id) {
  const auto [at, is_new] = parts_.try_emplace(id.value);
  auto& part = at->second;
  if (is_new) {
    auto row = state_.store->messages().load_row(id);
    if (!row)
      return row.error();
    part.is_expired = row->has_value() && (*row)->expires <= state_.now();
    part.out = state_.leases.places_of(id);
    for (const auto& [domain, out] : part.out)
      part.all_out += out;
  }
  return &part;
}

// Those of the domain that are due since the same time, as far as there is room.
Result<void> Leasing::take_part(const DueIndex::DueMessage& due, std::int64_t domain,
                                Effects& effects) {
  const auto id = due.id;
  auto found = part_of(id);
  if (!found)
    return damaged_.hold_or_wait(id, found.error(), effects);
  auto& part = **found;
  auto& out = part.out[domain];
  const auto room = std::min({left_of_large_, kMostOut - std::min(kMostOut, part.all_out),
                              kMostOutOfDomain - std::min(kMostOutOfDomain, out)});
  if (room == 0 || part.is_expired || is_resting(domain))
    return {};
  auto blocked = state_.store->destinations().is_blocked(domain, state_.now());
  if (!blocked)
    return blocked.error();
  if (*blocked)
    return {};
  auto rows = state_.store->messages().load_due(id, domain, due.time, due.recipient, room);
  if (!rows)
    return damaged_.hold_or_wait(id, rows.error(), effects);
  left_of_large_ -= std::min(left_of_large_, rows->size());
  if (state_.pauses.has_senders()) {
    auto sender = state_.store->messages().sender(id);
    if (!sender)
      return sender.error();
    if (const auto* pause = state_.pauses.of_sender(*sender))
      return park(id, *rows, *pause);
  }
  auto site = state_.store->destinations().site_of(domain);
  if (!site)
    return site.error();
  auto name = state_.store->destinations().name_of(domain);
  if (!name)
    return name.error();
  const auto next_hop = is_next_hop(*name) ? *name : std::string();
  for (const auto& row : *rows) {
    if (row.state != RecipientState::queued || state_.leases.is_leased(id, row.index))
      continue;
    part.taken.push_back({{row.index, row.attempts, std::nullopt, next_hop, tally_of(row)},
                          {domain, *site, row.lane}});
    ++out;
    ++part.all_out;
  }
  return {};
}

Result<void> Leasing::lease_parts(Effects& effects) {
  for (auto& [id, part] : std::exchange(parts_, {})) {
    wanting_large_[id] = std::max<std::size_t>(part.all_out / 4, 1);
    if (!part.taken.empty())
      if (auto done = lease_part({id}, std::move(part), effects); !done)
        return done.error();
  }
  return {};
}

Result<void> Leasing::lease_part(mail::MessageId id, Part part, Effects& effects) {
  auto message = load_leased(id);
  if (!message)
    return damaged_.hold_or_wait(id, message.error(), effects);
  std::sort(part.taken.begin(), part.taken.end(),
            [](const auto& a, const auto& b) { return a.recipient.index < b.recipient.index; });
  if (part.taken.back().recipient.index >= message->message->envelope.recipients.size())
    return damaged_.quarantine(id, "recipients beyond the envelope", effects);
  Leased leased;
  leased.reason = Lease::Reason::due;
  leased.message = message->message;
  std::vector<Lease::Recipient> recipients;
  recipients.reserve(part.taken.size());
  for (auto& each : part.taken) {
    leased.recipients.push_back(each.recipient.index);
    leased.places.push_back(each.place);
    recipients.push_back(std::move(each.recipient));
  }
  if (message->checksum && !message->message->content.file.empty())
    effects.checks.push_back({id, *message->checksum});
  state_.hand_out(std::move(leased), std::move(recipients), effects);
  return {};
}

void Leasing::recorded(const Record& record, const Leased& leased) {
  look_again_after(record, leased);
  rest(record, leased);
}

// Called after the lease, or a part of it, has ended. Hysteresis: a look passes over what is out,
// so it must pay.
void Leasing::look_again_after(const Record& record, const Leased& leased) {
  if (leased.reason == Lease::Reason::fresh)
    return;
  if (const auto at = wanting_large_.find(record.id.value); at != wanting_large_.end()) {
    const auto ended = record.results.size() + record.untried.size();
    at->second -= std::min(at->second, ended);
    if (at->second == 0)
      look_.at_once();
  }
  // Where much is in hand for long, notices still come and go.
  if (has_more_deadlines_ && leased.reason != Lease::Reason::due &&
      state_.leases.notices() <= most_aside(state_.settings.leased_messages) / 2)
    look_.at_once();
  const auto used = state_.leases.due();
  if (stopped_at_limit_ && used.messages <= state_.settings.leased_messages / 4 * 3 &&
      used.bytes <= state_.settings.leased_bytes / 4 * 3)
    look_.at_once();
  const auto is_half_done = [](const auto& wanting, std::int64_t key, std::size_t out) {
    const auto at = wanting.find(key);
    return at != wanting.end() && out <= at->second / 2;
  };
  for (const auto& place : leased.places)
    if (is_half_done(wanting_sites_, place.site, state_.leases.of_site(place.site)) ||
        is_half_done(wanting_domains_, place.domain, state_.leases.of_domain(place.domain)))
      look_.at_once();
}

void Leasing::rest(const Record& record, const Leased& leased) {
  if (record.untried.empty() || leased.places.empty())
    return;
  for (const auto index : record.untried) {
    const auto at = std::lower_bound(leased.recipients.begin(), leased.recipients.end(), index);
    if (at == leased.recipients.end() || *at != index)
      continue;
    const auto place = static_cast<std::size_t>(at - leased.recipients.begin());
    resting_[leased.places[place].domain] = state_.steady_now + kUntriedRest;
  }
  look_.expect(state_.now() + kUntriedRest.count());
}

bool Leasing::is_resting(std::int64_t domain) const {
  return !resting_.empty() && resting_.contains(domain);
}

void Leasing::end_rests() {
  std::erase_if(resting_, [this](const auto& entry) { return entry.second <= state_.steady_now; });
}

Result<bool> Leasing::is_paused(std::int64_t domain) {
  if (!state_.pauses.has_domains())
    return false;
  auto name = state_.store->destinations().name_of(domain);
  if (!name)
    return name.error();
  return state_.pauses.of_domain(*name) != nullptr;
}

// No index finds what is due of all senders but one, so that what is due of this one is put off,
// for the look at others not to pass over it each time.
Result<void> Leasing::park(mail::MessageId id, std::span<const RecipientRow> alive,
                           const PauseRow& pause) {
  ++parked_;
  for (auto row : alive) {
    if (row.state != RecipientState::queued || row.next_attempt > state_.now() ||
        state_.leases.is_leased(id, row.index))
      continue;
    row.next_attempt = std::min(pause.until, state_.now() + kParked.count());
    if (auto done = state_.store->messages().update_recipient(id, row); !done)
      return done.error();
    look_.expect(row.next_attempt);
  }
  return {};
}

}  // namespace postrider::queue
