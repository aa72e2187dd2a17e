#include "queue/ledger/recording.h"

#include "queue/body_file.h"
#include "queue/ledger/fact_lines.h"
#include "queue/row_codec.h"
#include "queue/waiting_lane.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <unordered_map>
#include <unordered_set>

namespace postrider::queue {

namespace {

constexpr std::int64_t kLastChance = 30'000;   // before a message is late
constexpr std::int64_t kNoticePause = 60'000;  // before a notice is tried again that was not made

RecipientState end_state(mail::Verdict verdict) {
  return verdict == mail::Verdict::delivered ? RecipientState::delivered : RecipientState::bounced;
}

void count_results(Queue::Counters& counted, const Record& record) {
  for (const auto& result : record.results) {
    counted.delivered += result.outcome.verdict == mail::Verdict::delivered ? 1 : 0;
    counted.bounced += result.outcome.verdict == mail::Verdict::bounce ? 1 : 0;
    counted.deferrals += result.outcome.verdict == mail::Verdict::retry ? 1 : 0;
  }
  counted.deferrals += record.unreached;
  counted.untried += record.untried_lines.size() - record.unreached;
}

// The usual case: everybody at the first attempt.
bool ends_all(const Record& record, std::size_t recipients) {
  if (record.results.size() < recipients || !record.untried.empty())
    return false;
  return std::none_of(record.results.begin(), record.results.end(), [](const auto& result) {
    return result.outcome.verdict == mail::Verdict::retry;
  });
}

bool are_distinct(const Record& record, std::size_t recipients) {
  if (recipients == 1)
    return record.results.size() == 1 && record.results[0].index == 0;
  std::vector<bool> seen(recipients);
  for (const auto& result : record.results)
    if (result.index < recipients)
      seen[result.index] = true;
  return std::find(seen.begin(), seen.end(), false) == seen.end();
}

std::unordered_set<std::uint32_t> ended_of(const Record& record) {
  std::unordered_set<std::uint32_t> ended;
  for (const auto& result : record.results)
    if (result.outcome.verdict != mail::Verdict::retry)
      ended.insert(result.index);
  return ended;
}

bool has_unended(const Record& record) {
  return !record.untried.empty() ||
         std::any_of(record.results.begin(), record.results.end(), [](const auto& result) {
           return result.outcome.verdict == mail::Verdict::retry;
         });
}

// Sorted.
std::vector<std::uint32_t> held_by(const Leased& leased) {
  if (!leased.recipients.empty())
    return leased.recipients;
  std::vector<std::uint32_t> all(leased.message->envelope.recipients.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

bool is_notice(Lease::Reason reason) {
  return reason == Lease::Reason::expired || reason == Lease::Reason::bounce;
}

}  // namespace

Result<void> Recording::record(const Record& record, Effects& effects) {
  if (record.results.empty() && record.untried.empty())
    return {};  // all were named before
  const auto first = record.results.empty() ? record.untried[0] : record.results[0].index;
  auto node = take_lease(record, first);
  // Not leased: it was recorded before, and the answer to that commit was lost. Nothing to do.
  if (!node)
    return {};
  effects.ended.push_back(std::move(node));
  const Leased& leased = effects.ended.back().mapped();
  count_results(effects.counted, record);
  if (auto done = state_results(state_, record, *leased.message, effects); !done)
    return done.error();
  if ((!record.partial || !keep_rest(record, leased)) && !leased.removed.empty()) {
    // Those that came to no end of their own.
    const auto ended = ended_of(record);
    effects.counted.removed += static_cast<std::uint64_t>(
        std::count_if(leased.removed.begin(), leased.removed.end(),
                      [&](std::uint32_t index) { return !ended.contains(index); }));
    if (auto done = state_removed(state_, record, leased, effects); !done)
      return done.error();
  }
  leasing_.recorded(record, leased);
  return leased.landed ? record_landed(record, leased, effects)
                       : record_waiting(record, leased, effects);
}

// Empty: it ended before.
Leases::Node Recording::take_lease(const Record& record, std::uint32_t first) {
  if (record.lease == 0)
    return state_.leases.take_holder(record.id, first);
  const auto* leased = state_.leases.find(record.id, record.lease);
  if (leased == nullptr || (leased->reason != Lease::Reason::delay_notice && !leased->holds(first)))
    return {};
  return state_.leases.take(record.id, record.lease);
}

// The lease goes on for those whom the record does not name. False: there is nobody.
bool Recording::keep_rest(const Record& record, const Leased& leased) {
  std::vector<std::uint32_t> named = record.untried;
  for (const auto& result : record.results)
    named.push_back(result.index);
  std::sort(named.begin(), named.end());
  Leased rest = leased;
  rest.recipients.clear();
  rest.places.clear();
  rest.landed = false;
  if (!rest.removed.empty())
    std::erase_if(rest.removed,
                  [ended = ended_of(record)](auto index) { return ended.contains(index); });
  const auto before = held_by(leased);
  auto next = named.begin();
  for (std::size_t i = 0; i < before.size(); ++i) {
    next = std::find_if(next, named.end(), [&](auto index) { return index >= before[i]; });
    if (next != named.end() && *next == before[i])
      continue;
    rest.recipients.push_back(before[i]);
    if (i < leased.places.size())
      rest.places.push_back(leased.places[i]);
  }
  if (rest.recipients.empty())
    return false;
  state_.leases.add(std::move(rest));
  return true;
}

Result<void> Recording::record_landed(const Record& record, const Leased& leased,
                                      Effects& effects) {
  const auto& message = *leased.message;
  const auto recipients = message.envelope.recipients.size();
  if (!record.partial && ends_all(record, recipients) && are_distinct(record, recipients)) {
    if (auto done = state_.store->incoming().remove(message.id); !done)
      return done.error();
    tell_end(message, false, effects);
    return store_notices(record, effects);
  }

  MessageRow row = new_row(state_, message);
  auto rows = all_due(message, state_.now());
  for (const auto& result : record.results)
    if (result.index < recipients)
      rows[result.index] = after(std::move(rows[result.index]), result, leased, row.expires);
  row.tried = std::any_of(rows.begin(), rows.end(), [](const RecipientRow& recipient) {
    return recipient.is_alive() && recipient.attempts > 0;
  });
  for (const auto& recipient : rows)
    if (recipient.is_alive())
      look_.expect(recipient.next_attempt);
  look_.expect(row.deadline);
  // Given back because their site is in trouble: they wait as if they had been tried.
  auto waits = deferring_.concerns_any(message, record.untried);
  if (!waits)
    return waits.error();
  row.tried = row.tried || *waits;
  if (auto done = state_.store->messages().move_in(message, row, rows); !done)
    return done.error();
  if (auto done = log_attempts(record, row); !done)
    return done.error();
  if (row.logged > 0)
    if (auto done = state_.store->attempts().set_logged(message.id, row.logged); !done)
      return done.error();
  return store_notices(record, effects);
}

Result<void> Recording::record_waiting(const Record& record, const Leased& leased,
                                       Effects& effects) {
  const auto& message = *leased.message;
  auto row = state_.store->messages().load_row(message.id);
  if (!row)
    return row.error();
  if (!row->has_value() && leased.reason == Lease::Reason::delay_notice)
    return {};  // it has come to its end since
  if (!row->has_value()) {
    // Removed by an administrator in the meantime; who hears of an end that came all the same,
    // does.
    tell_end(message, has_unended(record), effects);
    return store_notices(record, effects);
  }
  if (is_large(message))
    return record_large(record, leased, **row, effects);
  auto alive = state_.store->messages().load_alive(message.id);
  if (!alive)
    return alive.error();

  auto left = store_results(record, leased, *alive, **row);
  if (!left)
    return left.error();
  if (left->empty()) {
    if (auto done = remove_message(message, effects); !done)
      return done.error();
    return store_notices(record, effects);
  }
  const bool has_bouncing = std::any_of(left->begin(), left->end(), [](const auto& recipient) {
    return recipient.state == RecipientState::bouncing;
  });
  auto waits = deferring_.concerns_any(message, record.untried);
  if (!waits)
    return waits.error();
  (*row)->tried = (*row)->tried || *waits;
  if (record.delay_notice_sent)
    note_told(state_, message, **row);
  (*row)->deadline = deadline_of(state_, message, **row);
  if (has_bouncing)
    (*row)->deadline = 0;
  // A notice that could not be made now must not come back at once.
  const bool was_asked = is_notice(leased.reason) || leased.reason == Lease::Reason::delay_notice;
  if (was_asked && record.results.empty() && (*row)->deadline <= state_.now())
    (*row)->deadline = state_.now() + kNoticePause;
  look_.expect((*row)->deadline);
  if (auto done = log_attempts(record, **row); !done)
    return done.error();
  if (auto done = state_.store->messages().update(message.id, **row, *left); !done)
    return done.error();
  return store_notices(record, effects);
}

// Looks at those whom the record names and at no others: there may be very many of them.
Result<void> Recording::record_large(const Record& record, const Leased& leased, MessageRow row,
                                     Effects& effects) {
  const auto& message = *leased.message;
  auto has_bouncing = store_named(record, leased, row);
  if (!has_bouncing)
    return has_bouncing.error();
  const bool was_asked = is_notice(leased.reason) || leased.reason == Lease::Reason::delay_notice;
  if (was_asked || row.waiting + row.held <= 0) {
    auto counts = state_.store->messages().count_alive(message.id);
    if (!counts)
      return counts.error();
    if (!counts->has_any()) {
      if (auto done = remove_message(message, effects); !done)
        return done.error();
      return store_notices(record, effects);
    }
    row.waiting = counts->waiting;
    row.held = counts->held;
    *has_bouncing = counts->bouncing > 0;
  }
  auto waits = deferring_.concerns_any(message, record.untried);
  if (!waits)
    return waits.error();
  if (!record.untried.empty())
    look_.expect(state_.now());  // which is when they are due, if they were before
  row.tried = row.tried || *waits;
  if (record.delay_notice_sent)
    note_told(state_, message, row);
  if (was_asked)
    row.deadline = deadline_of(state_, message, row);
  if (*has_bouncing)
    row.deadline = 0;
  // A part that ended is followed by the next.
  if (was_asked && record.results.empty() && row.deadline <= state_.now())
    row.deadline = state_.now() + kNoticePause;
  look_.expect(row.deadline);
  if (auto done = log_attempts(record, row); !done)
    return done.error();
  if (auto done = state_.store->messages().update(message.id, row); !done)
    return done.error();
  return store_notices(record, effects);
}

// Those who came to an end lose their rows, and the row of the message counts the rest. Returns
// whether one of them is to be bounced.
Result<bool> Recording::store_named(const Record& record, const Leased& leased, MessageRow& row) {
  std::vector<std::uint32_t> named;
  std::unordered_map<std::uint32_t, const Record::Result*> results;
  for (const auto& result : record.results)
    if (results.emplace(result.index, &result).second)
      named.push_back(result.index);
  auto alive = state_.store->messages().load_alive(record.id, named);
  if (!alive)
    return alive.error();
  bool has_bouncing = false;
  for (auto& before : *alive) {
    auto& count = before.state == RecipientState::held ? row.held : row.waiting;
    const auto recipient = after(before, *results.at(before.index), leased, row.expires);
    auto done = recipient.is_alive()
                    ? state_.store->messages().update_recipient(record.id, recipient)
                    : state_.store->messages().remove_recipient(record.id, recipient.index);
    if (!done)
      return done.error();
    if (!recipient.is_alive()) {
      --count;
      continue;
    }
    row.tried = true;
    has_bouncing = has_bouncing || recipient.state == RecipientState::bouncing;
    look_.expect(recipient.next_attempt);
  }
  return has_bouncing;
}

// Returns who is left. If nobody is, nothing was stored: the message goes as a whole.
Result<std::vector<RecipientRow>> Recording::store_results(const Record& record,
                                                           const Leased& leased,
                                                           std::vector<RecipientRow>& alive,
                                                           MessageRow& row) {
  std::unordered_map<std::uint32_t, const Record::Result*> results;
  for (const auto& result : record.results)
    results.emplace(result.index, &result);
  std::vector<RecipientRow> left;
  std::vector<const RecipientRow*> changed;
  for (auto& recipient : alive) {
    if (const auto result = results.find(recipient.index); result != results.end()) {
      recipient = after(std::move(recipient), *result->second, leased, row.expires);
      changed.push_back(&recipient);
    }
    if (!recipient.is_alive())
      continue;
    row.tried = row.tried || recipient.attempts > 0;
    if (!state_.leases.is_leased(record.id, recipient.index))  // its own record will say when
      look_.expect(recipient.next_attempt);
    left.push_back(recipient);
  }
  if (left.empty())
    return left;
  for (const auto* recipient : changed)
    if (auto done = state_.store->messages().update_recipient(record.id, *recipient); !done)
      return done.error();
  return left;
}

// RFC 2852 §4: a last attempt before the time by which its sender wants it is worth more than one
// behind that.
std::int64_t Recording::in_time(std::int64_t wanted, const mail::Message& message) const {
  const auto& by = message.envelope.deliver_by;
  if (!by)
    return wanted;
  const auto last = state_.time.to_queue(by->time).time_since_epoch().count() - kLastChance;
  return state_.now() < last ? std::min(wanted, last) : wanted;
}

RecipientRow Recording::after(RecipientRow row, const Record::Result& result, const Leased& leased,
                              std::int64_t expires) const {
  ++row.attempts;
  if (row.lane == kUnknownLane)
    row.lane = waiting_lane(*leased.message);
  row.last = encode_outcome(result.outcome, result.tally);
  if (result.outcome.verdict != mail::Verdict::retry) {
    row.state = end_state(result.outcome.verdict);
    row.next_attempt = kNever;
    return row;
  }
  // Held or to be bounced since it was leased: that stays.
  if (row.state != RecipientState::queued)
    return row;
  const auto wanted =
      leased.is_wanted_again(row.index)
          ? state_.now()
          : in_time(state_.time.to_queue(result.next_attempt).time_since_epoch().count(),
                    *leased.message);
  row.next_attempt = std::clamp(wanted, state_.now(), std::max(state_.now(), expires));
  return row;
}

Result<void> Recording::log_attempts(const Record& record, MessageRow& row) {
  // Of more than are kept only the latest are written.
  const auto all = static_cast<std::int64_t>(record.results.size());
  const auto skipped = std::max<std::int64_t>(all - AttemptRows::kKept, 0);
  row.logged += skipped;
  for (const auto& result : std::span(record.results).subspan(static_cast<std::size_t>(skipped))) {
    const std::string outcome = encode_outcome(result.outcome);
    if (auto done = state_.store->attempts().add(record.id, ++row.logged, state_.time.wall(),
                                                 result.index, outcome);
        !done)
      return done.error();
  }
  return {};
}

Result<void> Recording::store_notices(const Record& record, Effects& effects) {
  for (const auto& notice : record.notices) {
    // Refused means already there: the commit whose answer was lost had stored it.
    Result<void> refused;
    const std::string head = encode_head(*notice.message, content_checksum(notice));
    auto done = intake_.submit(notice, head, effects, refused);
    if (!done)
      return done.error();
  }
  return {};
}

Result<void> Recording::remove_message(const mail::Message& message, Effects& effects) {
  tell_end(message, false, effects);
  return state_.store->messages().remove(message.id);
}

// It has no row any more. Once nobody has it in hand either, its content goes too, and that is
// said.
void Recording::tell_end(const mail::Message& message, bool by_administrator, Effects& effects) {
  if (state_.leases.is_leased(message.id))
    return;
  if (!message.content.file.empty())
    effects.files.push_back(message.content.file);
  if (by_administrator)
    effects.gone.push_back(message.id);
  else if (state_.log.enabled(Level::info))
    effects.told.emplace_back(Level::info, "removed", to_string(message.id));
}

Result<void> Recording::set_site(const SiteState& site) {
  const auto until = site.blocked_until == TimePoint()
                         ? 0
                         : state_.time.to_queue(site.blocked_until).time_since_epoch().count();
  auto troubled = state_.store->destinations().set_site(site, until);
  if (!troubled)
    return troubled.error();
  look_.at_once();
  return *troubled == 0 ? Result<void>() : deferring_.begin_site(*troubled);
}

Result<void> Recording::assign_site(const std::string& domain, const std::string& site) {
  auto moved = state_.store->destinations().assign_site(domain, site);
  if (!moved)
    return moved.error();
  if (*moved == 0 || !state_.store->destinations().has_blocked_sites())
    return {};
  auto in_trouble = state_.store->destinations().is_in_trouble(*moved);
  if (!in_trouble)
    return in_trouble.error();
  if (*in_trouble)
    deferring_.begin_domain(*moved);
  return {};
}

}  // namespace postrider::queue
