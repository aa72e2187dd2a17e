// New mail, and mail that comes back after a stop.
#include "queue/ledger/ledger.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

std::vector<RecipientRow> all_due(const mail::Message& message, std::int64_t now) {
  std::vector<RecipientRow> rows;
  rows.reserve(message.envelope.recipients.size());
  for (const auto& recipient : message.envelope.recipients) {
    RecipientRow row;
    row.index = static_cast<std::uint32_t>(rows.size());
    row.next_attempt = now;
    row.address = recipient.address;
    rows.push_back(std::move(row));
  }
  return rows;
}

mail::Outcome damage(const std::string& why) {
  mail::Outcome outcome;
  outcome.stage = mail::Stage::admin;
  outcome.status = {4, 3, 0};
  outcome.text = "quarantined: " + why;
  return outcome;
}

}  // namespace

MessageRow Ledger::new_row(const mail::Message& message) const {
  MessageRow row;
  row.expires = (time.to_queue(message.received) + settings.lifetime).time_since_epoch().count();
  // A message with a damaged date must not expire at once (attacks.md M18).
  row.expires = std::clamp(row.expires, now(), now() + settings.lifetime.count());
  // Nobody to tell: bounces and notices.
  row.delayed = message.envelope.sender.empty() || settings.delay_notice <= Duration(0);
  row.deadline = deadline_of(message, row);
  return row;
}

std::int64_t Ledger::deadline_of(const mail::Message& message, const MessageRow& row) const {
  if (row.delayed || settings.delay_notice <= Duration(0))
    return row.expires;
  const auto notice = time.to_queue(message.received) + settings.delay_notice;
  return std::min(row.expires, notice.time_since_epoch().count());
}

Result<void> Ledger::submit(const std::shared_ptr<const mail::Message>& message,
                            std::string_view head, Effects& effects, Result<void>& refused) {
  const auto usage = leases.fresh();
  const bool is_fresh = has_consumer && usage.messages < settings.fresh_messages &&
                        usage.bytes < settings.fresh_bytes && !is_blocked(*message);
  if (!is_fresh) {
    effects.made.push_back(message->id);
    return submit_waiting(*message, head, effects, refused);
  }

  // One statement: if it fails, nothing of it is left and the transaction goes on.
  if (auto done = store->incoming().insert(*message, head); !done) {
    if (!is_constraint(done.error()))
      return done.error();
    refused = Error(Errc::storage, done.error().describe());
    return {};
  }
  effects.made.push_back(message->id);
  Leased leased;
  leased.reason = Lease::Reason::fresh;
  leased.message = message;
  leased.landed = true;
  std::vector<Lease::Recipient> recipients(message->envelope.recipients.size());
  for (std::uint32_t i = 0; i < recipients.size(); ++i)
    recipients[i].index = i;
  hand_out(std::move(leased), std::move(recipients), effects);
  return {};
}

// Mail to dead sites alone: delivery could only give it back.
bool Ledger::is_blocked(const mail::Message& message) const {
  const auto& recipients = message.envelope.recipients;
  return store->destinations().has_blocked_sites() &&
         std::all_of(recipients.begin(), recipients.end(), [&](const auto& recipient) {
           return store->destinations().is_known_blocked(mail::domain_of(recipient.address), now());
         });
}

// Nobody will write about it before its site's next probe, which may be another message's.
Result<void> Ledger::note_parked(const mail::Message& message, const mail::Recipient& recipient,
                                 Effects& effects) {
  auto domain = store->destinations().domain_id(mail::domain_of(recipient.address));
  if (!domain)
    return domain.error();
  auto trouble = store->destinations().site_trouble(*domain);
  if (!trouble)
    return trouble.error();
  const auto last = trouble->empty() ? Error(Errc::not_found, "") : decode_outcome(*trouble);
  const auto why = last ? *last : mail::Outcome();
  LogEvent event(Level::info, "deferred", to_string(message.id));
  event.add("from", message.envelope.sender).add("to", recipient.address).add("relay", "none");
  event.add("dsn", to_string(why.status)).add("reason", why.reason());
  effects.told.push_back(std::move(event));
  return {};
}

Result<void> Ledger::submit_waiting(const mail::Message& message, std::string_view head,
                                    Effects& effects, Result<void>& refused) {
  auto savepoint = store->begin_part();
  if (!savepoint)
    return savepoint.error();
  auto row = new_row(message);
  row.tried = is_blocked(message);  // it waits as if it had been
  auto done = store->messages().insert(message, head, row, all_due(message, now()));
  if (!done) {
    if (!is_constraint(done.error()))
      return done.error();
    refused = Error(Errc::storage, done.error().describe());
    store->destinations().forget();
    expect(now());
    return savepoint->roll_back();
  }
  if (row.tried && log_.enabled(Level::info))
    for (const auto& recipient : message.envelope.recipients)
      if (auto logged = note_parked(message, recipient, effects); !logged)
        return logged.error();
  expect(now());
  return savepoint->release();
}

Result<std::size_t> Ledger::recover() {
  auto ids = store->incoming().ids();
  if (!ids)
    return ids.error();
  for (const auto id : *ids)
    if (!passed_over_.contains(id.value))
      if (auto done = land_again(id); !done)
        return (is_damage(done.error()) ? pass_over(id, done.error()) : done.error())
            .during("recover message " + to_string(id));
  return ids->size();
}

Result<void> Ledger::follow_landed() {
  auto landed = store->incoming().ids();
  if (!landed)
    return landed.error();
  for (const auto id : leases.ids())
    if (auto* leased = leases.find(id); leased != nullptr && leased->landed)
      leased->landed = std::binary_search(landed->begin(), landed->end(), id);
  return {};
}

Result<void> Ledger::land_again(mail::MessageId id) {
  auto message = store->incoming().load_head(id);
  if (!message) {
    if (message.error().code() != Errc::corrupt)
      return message.error();
    const auto why = message.error().describe();
    log_.write(LogEvent(Level::error, "quarantined", to_string(id)).add("reason", why));
    return store->messages().quarantine_incoming(id, encode_outcome(damage(why)));
  }
  return store->messages().move_in(**message, new_row(**message), all_due(**message, now()));
}

Result<void> Ledger::quarantine(mail::MessageId id, const std::string& why, Effects& effects) {
  if (auto* leased = leases.find(id); leased != nullptr && leased->landed)
    if (auto done = move_leased(*leased, effects); !done)
      return done.error();
  log_.write(LogEvent(Level::error, "quarantined", to_string(id)).add("reason", why));
  auto row = store->messages().load_row(id);
  if (!row)
    return row.error();
  if (!row->has_value())
    return {};
  auto alive = store->messages().load_alive(id);
  if (!alive)
    return alive.error();
  const std::string last = encode_outcome(damage(why));
  for (auto& recipient : *alive) {
    recipient.state = RecipientState::held;
    recipient.next_attempt = kNever;
    recipient.last = last;
    if (auto done = store->messages().update_recipient(id, recipient); !done)
      return done.error();
  }
  if (auto done = store->messages().mark_damaged(id); !done)
    return done.error();
  return store->messages().update(id, **row, *alive);
}

}  // namespace postrider::queue
