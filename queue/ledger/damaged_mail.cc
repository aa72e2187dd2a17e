#include "queue/ledger/damaged_mail.h"

#include "queue/ledger/fact_lines.h"
#include "queue/listed_reasons.h"
#include "queue/row_codec.h"

namespace postrider::queue {

namespace {

constexpr Duration kUnreadable = std::chrono::seconds(30);  // before content is looked for again
// The same of a page of the database: a disk may try for seconds before it gives up, and the queue
// thread waits for it.
constexpr Duration kPageUnreadable = std::chrono::minutes(10);

mail::Outcome damage(const std::string& why) {
  mail::Outcome outcome;
  outcome.stage = mail::Stage::admin;
  outcome.status = {4, 3, 0};
  outcome.text = std::string(kQuarantined) + why;
  return outcome;
}

}  // namespace

Result<void> DamagedMail::quarantine(mail::MessageId id, const std::string& why, Effects& effects) {
  if (auto* leased = state_.leases.find(id); leased != nullptr && leased->landed)
    if (auto done = move_leased(state_, *leased, effects); !done)
      return done.error();
  state_.log.write(LogEvent(Level::error, "quarantined", to_string(id)).add("reason", why));
  auto row = state_.store->messages().load_row(id);
  if (!row)
    return row.error();
  if (!row->has_value())
    return {};
  auto alive = state_.store->messages().load_alive(id);
  if (!alive)
    return alive.error();
  const std::string last = encode_outcome(damage(why));
  for (auto& recipient : *alive) {
    recipient.state = RecipientState::held;
    recipient.next_attempt = kNever;
    recipient.last = last;
    if (auto done = state_.store->messages().update_recipient(id, recipient); !done)
      return done.error();
  }
  if (state_.facts.are_wanted() && !alive->empty()) {
    if (auto done = state_held(id, why, effects); !done)
      return done.error();
  }
  if (auto done = state_.store->messages().mark_damaged(id); !done)
    return done.error();
  return state_.store->messages().update(id, **row, *alive);
}

// With the sender's references, as far as they can be read.
Result<void> DamagedMail::state_held(mail::MessageId id, const std::string& why, Effects& effects) {
  LogEvent held(Level::error, "held", to_string(id));
  const auto head = state_.store->messages().load_head(id);
  if (!head || !head->has_value()) {
    held.add("reason", why);
    return state_fact(state_, encode_line(held), effects);
  }
  held.add("from", (*head)->envelope.sender).add("reason", why);
  return state_fact(state_, held, **head, effects);
}

Result<void> DamagedMail::quarantine_incoming(mail::MessageId id, const std::string& why) {
  state_.log.write(LogEvent(Level::error, "quarantined", to_string(id)).add("reason", why));
  return state_.store->messages().quarantine_incoming(id, encode_outcome(damage(why)));
}

Result<void> DamagedMail::hold_or_wait(mail::MessageId id, const Error& error, Effects& effects) {
  if (error.code() == Errc::corrupt)
    return hold(id, error.describe(), effects);
  if (is_damage(error)) {
    damaged_.emplace(id.value, error);
    found_ = true;
    return error;
  }
  if (is_of_store(error))
    return error;
  return postpone(id, error, effects);
}

Result<void> DamagedMail::hold(mail::MessageId id, const std::string& why, Effects& effects) {
  auto done = quarantine(id, why, effects);
  if (!done && is_damage(done.error()))
    return pass_over(id, done.error());
  return done;
}

Error DamagedMail::pass_over(mail::MessageId id, const Error& error) {
  state_.log.write(
      LogEvent(Level::error, "passed_over", to_string(id)).add("reason", error.describe()));
  const bool passes = is_unreadable(error);
  passed_over_[id.value] = passes ? state_.steady_now + kPageUnreadable : SteadyTime::max();
  if (passes)
    look_.expect(state_.now() + kPageUnreadable.count());
  damaged_.erase(id.value);
  found_ = true;
  return error;
}

bool DamagedMail::is_passed_over(mail::MessageId id) const {
  const auto at = passed_over_.find(id.value);
  return at != passed_over_.end() && state_.steady_now < at->second;
}

Result<void> DamagedMail::hold_known(Effects& effects) {
  const auto known = damaged_;
  for (const auto& [id, why] : known)
    if (auto done = hold_or_postpone({id}, why, effects); !done)
      return done.error();
  return {};
}

Result<void> DamagedMail::hold_or_postpone(mail::MessageId id, const Error& why, Effects& effects) {
  if (!is_unreadable(why))
    return hold(id, why.describe(), effects);
  auto done = postpone(id, why, effects);
  if (!done && is_damage(done.error()))
    return pass_over(id, done.error());
  return done;
}

Result<void> DamagedMail::postpone(mail::MessageId id, const Error& error, Effects& effects) {
  effects.told.push_back(
      LogEvent(Level::warn, "content_unreadable", to_string(id)).add("reason", error.describe()));
  auto row = state_.store->messages().load_row(id);
  if (!row || !row->has_value())
    return row ? Result<void>() : row.error();
  auto alive = state_.store->messages().load_alive(id);
  if (!alive)
    return alive.error();
  const auto later = state_.now() + (is_unreadable(error) ? kPageUnreadable : kUnreadable).count();
  for (auto& recipient : *alive) {
    if (recipient.state != RecipientState::queued || recipient.next_attempt > state_.now())
      continue;
    recipient.next_attempt = later;
    if (auto done = state_.store->messages().update_recipient(id, recipient); !done)
      return done.error();
  }
  look_.expect(later);
  if ((*row)->deadline > state_.now())
    return {};
  return state_.store->messages().set_deadline(id, later);
}

void DamagedMail::forget() {
  damaged_.clear();
  passed_over_.clear();
  found_ = false;
}

}  // namespace postrider::queue
