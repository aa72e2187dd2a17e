#include "delivery/lease_book.h"

#include "base/assert.h"
#include "delivery/delivery_log.h"
#include "delivery/notices.h"
#include "delivery/refusals.h"
#include "mail/delivery_wishes.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;
using queue::Lease;

namespace {

// What is known of some recipients is recorded so long after it became known, whatever the others
// do: a crash would repeat it.
constexpr auto kKnown = std::chrono::milliseconds(700);
// What was delivered, and needs no notice that others may share, much sooner: a crash would make a
// second copy of it.
constexpr auto kDelivered = std::chrono::milliseconds(150);
constexpr std::size_t kMany = 1000;   // recipients of a message
constexpr std::size_t kEnough = 100;  // results of such a message to be recorded before that

// Of a message whose recipients are leased in parts.
bool is_shared(const Lease& lease) {
  return lease.message->envelope.recipients.size() > kMany &&
         (lease.reason == Lease::Reason::fresh || lease.reason == Lease::Reason::due);
}

bool is_earlier(const Lease::Recipient& a, const Lease::Recipient& b) {
  return a.index < b.index;
}

// Requires: they are in the order of their indexes.
const Lease::Recipient* find_leased(const Lease& lease, std::uint32_t index) {
  const auto& all = lease.recipients;
  const auto at = std::lower_bound(
      all.begin(), all.end(), index,
      [](const Lease::Recipient& one, std::uint32_t wanted) { return one.index < wanted; });
  return at == all.end() || at->index != index ? nullptr : &*at;
}

// A mailbox of this machine has no connection that could be protected.
void count_protection(const Outcome& outcome, DeliveryTimings& timings) {
  if (!outcome.tls)
    return;
  auto& counter = outcome.tls->starts_with("TLSv1.3")   ? timings.tls_1_3
                  : outcome.tls->starts_with("TLSv1.2") ? timings.tls_1_2
                  : outcome.tls->starts_with("TLS")     ? timings.tls_older
                                                        : timings.in_clear;
  counter.fetch_add(1, std::memory_order_relaxed);
}

Outcome expired(const mail::Message& message, std::optional<Outcome> known, TimePoint now) {
  const auto last = known ? known->reason() : "it could not be tried";
  auto outcome = known ? *std::move(known) : Outcome();
  outcome.verdict = Verdict::bounce;
  outcome.stage = Stage::expired;
  outcome.status = {5, 4, 7};  // RFC 3463: delivery time expired
  outcome.text =
      is_to_be_returned(message, now)
          ? "it was to be delivered by " + mail::format_date_time(message.envelope.deliver_by->time)
          : "the message was too long in the queue";
  outcome.text += "; last: " + last;
  return outcome;
}

void count_class(DispatchContext& context, const Outcome& outcome, bool is_first_try) {
  const auto klass = meaning_of(outcome, is_first_try).klass;
  context.timings->deferred[static_cast<std::size_t>(klass)].fetch_add(1,
                                                                       std::memory_order_relaxed);
}

Outcome by_administrator(const Lease::Recipient& recipient) {
  auto outcome = recipient.last.value_or(Outcome());
  outcome.verdict = Verdict::bounce;
  outcome.stage = Stage::admin;
  outcome.status = {5, 7, 1};
  outcome.reply = {};
  outcome.text = "returned by the administrator";
  return outcome;
}

// What has ended; the record goes on for the rest.
queue::Record take_part(queue::Record& record) {
  queue::Record part;
  part.id = record.id;
  part.lease = record.lease;
  part.partial = true;
  part.results = std::exchange(record.results, {});
  part.untried = std::exchange(record.untried, {});
  part.untried_lines = std::exchange(record.untried_lines, {});
  part.unreached = std::exchange(record.unreached, 0);
  part.notices = std::exchange(record.notices, {});
  return part;
}

// What its sender need not hear of, if that is enough: the rest waits for more that goes with it in
// one notice.
std::optional<queue::Record> take_plain(const Lease& lease, queue::Record& record,
                                        std::size_t least) {
  auto& results = record.results;
  const auto plain_end = std::partition(results.begin(), results.end(), [&](const auto& result) {
    return !needs_notice(lease, result);
  });
  if (plain_end - results.begin() < static_cast<std::ptrdiff_t>(least))
    return std::nullopt;
  // What was sent on is of one of these, and goes with them: in no transaction may a recipient have
  // ended whose onward mail is not there.
  if (!record.notices.empty() && plain_end != results.end())
    return std::nullopt;
  queue::Record part;
  part.id = record.id;
  part.lease = record.lease;
  part.partial = true;
  part.notices = std::exchange(record.notices, {});
  part.results.assign(std::move_iterator(results.begin()), std::move_iterator(plain_end));
  results.erase(results.begin(), plain_end);
  return part;
}

// By one host, while it waited for another: an attempt that nothing is recorded of.
void log_refusals(const LeaseBook& book, const Job& job) {
  JobEnd end;
  end.job.lease = job.lease;
  end.job.handed_over = job.handed_over;
  for (const auto& one : job.refused)
    if (one.outcome.verdict == Verdict::retry &&
        std::find(job.recipients.begin(), job.recipients.end(), one.index) != job.recipients.end())
      book.log_attempt(end, one);
}

}  // namespace

bool is_to_be_returned(const mail::Message& message, TimePoint now) {
  const auto& by = message.envelope.deliver_by;
  return by && by->returns && by->time <= now;
}

std::uint64_t LeaseBook::open(Lease lease) {
  const auto handle = ++last_;
  if (auto& all = lease.recipients; !std::is_sorted(all.begin(), all.end(), is_earlier))
    std::sort(all.begin(), all.end(), is_earlier);
  auto owned = std::make_unique<InHand>();
  owned->record.id = lease.message->id;
  owned->record.lease = lease.number;
  owned->open = lease.recipients.size();
  owned->taken = context_.steady();
  owned->lease = std::move(lease);
  in_hand_.emplace(handle, std::move(owned));
  return handle;
}

LeaseBook::InHand& LeaseBook::in_hand(std::uint64_t handle) {
  const auto found = in_hand_.find(handle);
  POSTRIDER_ASSERT(found != in_hand_.end());
  return *found->second;
}

void LeaseBook::give_up(std::uint64_t handle) {
  auto& given = in_hand(handle);
  const auto& lease = given.lease;
  for (const auto& recipient : lease.recipients) {
    if (lease.reason == Lease::Reason::delay_notice) {
      given.record.untried.push_back(recipient.index);
      continue;
    }
    if (lease.reason == Lease::Reason::expired) {
      expire(given, recipient.index, recipient.last);
      continue;
    }
    auto outcome = by_administrator(recipient);
    maillog::bounced(context_.log, *lease.message,
                     lease.message->envelope.recipients[recipient.index], outcome);
    ++counts_.bounced;
    given.record.results.push_back({recipient.index, std::move(outcome), {}});
  }
  given.open = 0;
  given.record.delay_notice_sent = lease.reason == Lease::Reason::delay_notice;
}

void LeaseBook::expire(InHand& given, std::uint32_t index, std::optional<Outcome> last) {
  const auto& message = *given.lease.message;
  auto outcome = expired(message, std::move(last), context_.clock.now());
  maillog::bounced(context_.log, message, message.envelope.recipients[index], outcome);
  ++counts_.bounced;
  given.record.results.push_back({index, std::move(outcome), {}});
  --given.open;
}

void LeaseBook::expire(const Job& job, const LastKnown& known) {
  auto& given = in_hand(job.lease);
  const auto last_of = [&](std::uint32_t index) -> std::optional<Outcome> {
    const auto found = known.find(given.record.id.value);
    if (found == known.end() || !found->second.contains(index))
      return std::nullopt;
    return found->second.at(index);
  };
  for (const auto index : job.recipients) {
    const auto refusal = std::find_if(job.refused.begin(), job.refused.end(),
                                      [&](const auto& one) { return one.index == index; });
    expire(given, index, refusal == job.refused.end() ? last_of(index) : refusal->outcome);
    if (const auto twins = given.twins.extract(index))
      for (const auto twin : twins.mapped())
        expire(given, twin, last_of(twin));
  }
  record_soon(job.lease, given);
}

void LeaseBook::add_twin(std::uint64_t handle, std::uint32_t first, std::uint32_t index) {
  in_hand(handle).twins[first].push_back(index);
}

void LeaseBook::note_attempt(std::uint64_t handle) {
  const auto found = in_hand_.find(handle);
  if (found == in_hand_.end())
    return;
  auto& given = *found->second;
  if (std::exchange(given.is_begun, true) || given.lease.reason != Lease::Reason::fresh)
    return;
  context_.timings->first_attempt.add(context_.clock.now() - given.lease.message->received);
}

void LeaseBook::settle(std::uint64_t handle, std::uint32_t index, Outcome outcome,
                       std::optional<Duration> again_within, std::uint64_t site) {
  auto& given = in_hand(handle);
  POSTRIDER_ASSERT(given.open > 0);
  queue::Record::Result result;
  result.index = index;
  if (outcome.verdict == Verdict::retry) {
    const auto* const recipient = find_leased(given.lease, index);
    POSTRIDER_ASSERT(recipient != nullptr);
    ++counts_.deferred;
    count_class(context_, outcome, recipient->attempts == 0);
    const auto next =
        given.retry.next(context_, given.record.id, *recipient, outcome, site, again_within);
    result.next_attempt = next.at;
    result.tally = next.tally;
  } else if (outcome.verdict == Verdict::delivered) {
    ++counts_.delivered;
    context_.timings->delivery.add(context_.clock.now() - given.lease.message->received);
    count_protection(outcome, *context_.timings);
  } else {
    ++counts_.bounced;
  }
  deferrals_.note(site, {given.record.id.value, index}, outcome, context_.clock.now());
  result.outcome = std::move(outcome);
  given.is_delivered_to = given.is_delivered_to || result.outcome.verdict == Verdict::delivered;
  const auto twins = given.twins.extract(index);
  if (twins)
    for (const auto twin : twins.mapped()) {
      JobEnd end;
      end.job.lease = handle;
      end.job.handed_over = context_.steady();
      log_attempt(end, {twin, result.outcome});
      settle(handle, twin, result.outcome, again_within, site);
    }
  given.record.results.push_back(std::move(result));
  --given.open;
  record_soon(handle, given);
}

void LeaseBook::record_soon(std::uint64_t handle, InHand& given) {
  // At once, so that the next part of the message goes out.
  if (given.open > 0 && given.record.results.size() >= kEnough && is_shared(given.lease))
    if (auto part = take_plain(given.lease, given.record, kEnough))
      records_.push(*std::move(part));
  if (given.open > 0 && given.is_delivered_to && !std::exchange(given.is_soon_recorded, true)) {
    delivered_.push_back(handle);
    record_delivered_soon();
  }
  if (given.open == 0 || std::exchange(given.is_partly_known, true))
    return;
  partly_known_.push_back(handle);
  flush_later();
}

void LeaseBook::record_delivered_soon() {
  if (!record_delivered_)
    record_delivered_ =
        std::make_unique<Deadline>(context_.home.deadlines(), [this] { record_delivered(); });
  if (!record_delivered_->is_set())
    record_delivered_->set(kDelivered);
}

void LeaseBook::record_delivered() {
  for (const auto handle : std::exchange(delivered_, {})) {
    const auto found = in_hand_.find(handle);
    if (found == in_hand_.end())
      continue;
    auto& given = *found->second;
    given.is_soon_recorded = given.is_delivered_to = false;
    if (given.open == 0)
      continue;
    if (auto part = take_plain(given.lease, given.record, 1))
      records_.push(*std::move(part));
  }
}

void LeaseBook::flush_later() {
  if (!record_known_)
    record_known_ =
        std::make_unique<Deadline>(context_.home.deadlines(), [this] { record_known(); });
  if (!record_known_->is_set())
    record_known_->set(kKnown);
}

void LeaseBook::record_known() {
  std::unordered_map<std::int64_t, Together> shared;
  for (const auto handle : std::exchange(partly_known_, {})) {
    const auto found = in_hand_.find(handle);
    if (found == in_hand_.end())
      continue;
    auto& given = *found->second;
    if (!is_shared(given.lease)) {
      record_part(handle, given);
      continue;
    }
    given.is_partly_known = false;
    if (given.open == 0 || (given.record.results.empty() && given.record.untried.empty()))
      continue;
    auto& together = shared[given.record.id.value];
    ++given.open;  // so that its last record comes behind this one
    together.open.push_back(handle);
    together.add(given.lease, take_part(given.record));
  }
  for (auto& closed : std::exchange(closed_, {})) {
    auto& together = shared[closed->record.id.value];
    ++together.closed;
    together.add(closed->lease, std::move(closed->record));
  }
  for (auto& [id, together] : shared)
    record_together(std::move(together));
}

void LeaseBook::Together::add(const Lease& of, queue::Record record) {
  if (!lease.message)
    lease = {of.reason, of.message, {}};
  records.push_back(std::move(record));
}

void LeaseBook::record_together(Together together) {
  queue::Record about;
  about.id = together.lease.message->id;
  for (const auto& record : together.records)
    for (const auto& result : record.results)
      if (needs_notice(together.lease, result))
        about.results.push_back({result.index, result.outcome, {}});
  if (notices_.takes_long(together.lease, about)) {
    context_.home.spawn(
        record_with_notices(context_.alive(), std::move(together), std::move(about)), context_.log,
        "notice");
    return;
  }
  notices_.make_now(together.lease, about);
  push_all(together, std::move(about));
}

Task<void> LeaseBook::record_with_notices(std::shared_ptr<void> alive, Together together,
                                          queue::Record about) {
  co_await notices_.make(together.lease, about);
  push_all(together, std::move(about));
}

// The notices go with the first, so that none of those they tell of is stored before them.
void LeaseBook::push_all(Together& together, queue::Record about) {
  auto& notices = together.records.front().notices;
  std::move(about.notices.begin(), about.notices.end(), std::back_inserter(notices));
  for (auto& record : together.records)
    records_.push(std::move(record));
  closing_ -= together.closed;
  for (const auto handle : together.open) {
    --in_hand(handle).open;
    close(handle);
  }
}

// What has ended; the lease goes on for the rest.
void LeaseBook::record_part(std::uint64_t handle, InHand& given) {
  given.is_partly_known = false;
  if (given.open == 0 || (given.record.results.empty() && given.record.untried.empty()))
    return;
  auto part = take_part(given.record);
  if (notices_.takes_long(given.lease, part)) {
    ++given.open;  // so that its last record comes behind this one
    context_.home.spawn(record_part_with_notice(context_.alive(), handle, std::move(part)),
                        context_.log, "notice");
    return;
  }
  notices_.make_now(given.lease, part);
  records_.push(std::move(part));
}

Task<void> LeaseBook::record_part_with_notice(std::shared_ptr<void> alive, std::uint64_t handle,
                                              queue::Record part) {
  auto& given = in_hand(handle);
  co_await notices_.make(given.lease, part);
  records_.push(std::move(part));
  --given.open;
  close(handle);
}

void LeaseBook::settle_all(const Job& job, const Outcome& outcome,
                           std::optional<Duration> again_within) {
  JobEnd end;
  end.job = job;
  end.job.handed_over = context_.steady();
  for (const auto index : job.recipients) {
    log_attempt(end, {index, outcome});
    settle(job.lease, index, outcome, again_within);
  }
}

void LeaseBook::put_back(const Job& job) {
  auto& given = in_hand(job.lease);
  auto all = job.recipients;
  for (const auto index : job.recipients)
    if (const auto twins = given.twins.extract(index))
      all.insert(all.end(), twins.mapped().begin(), twins.mapped().end());
  POSTRIDER_ASSERT(given.open >= all.size());
  given.record.untried.insert(given.record.untried.end(), all.begin(), all.end());
  given.open -= all.size();
  record_soon(job.lease, given);
}

void LeaseBook::put_back_deferred(const Job& job, const Outcome& why, bool tried) {
  auto& given = in_hand(job.lease);
  const auto& message = *given.lease.message;
  JobEnd end;
  end.job.lease = job.lease;
  end.job.handed_over = context_.steady();
  const auto tell = [&](std::uint32_t index) {
    const auto& recipient = message.envelope.recipients[index];
    if (tried) {
      log_attempt(end, {index, why});
      ++counts_.deferred;
      count_class(context_, why, false);
      ++given.record.unreached;
    } else {
      maillog::deferred(context_.log, message, recipient, why);
    }
    given.record.untried_lines.push_back(
        queue::encode_line(maillog::deferred_line(message, recipient, why)));
  };
  for (const auto index : job.recipients) {
    tell(index);
    if (const auto twins = given.twins.find(index); twins != given.twins.end())
      std::for_each(twins->second.begin(), twins->second.end(), tell);
  }
  put_back(job);
}

void LeaseBook::add_onward(std::uint64_t handle, std::vector<queue::Submission> onward) {
  auto& given = in_hand(handle);
  for (auto& submission : onward) {
    maillog::sent_on(context_.log, *given.lease.message, *submission.message);
    given.record.notices.push_back(std::move(submission));
  }
}

std::vector<std::uint32_t> LeaseBook::strike_out(const Job& job, const Wanted& wanted) const {
  const auto found = wanted.leases.find(job.lease);
  if (found == wanted.leases.end())
    return {};
  const auto& twins = in_hand_.at(job.lease)->twins;
  auto& recipients = found->second->recipients;
  const auto is_wanted = [&](std::uint32_t index) {
    return std::find(recipients.begin(), recipients.end(), index) != recipients.end();
  };
  std::vector<std::uint32_t> struck;
  for (const auto index : job.recipients) {
    const auto others = twins.find(index);
    if (is_wanted(index) || (others != twins.end() &&
                             std::any_of(others->second.begin(), others->second.end(), is_wanted)))
      struck.push_back(index);
  }
  for (const auto index : struck) {
    std::erase(recipients, index);
    if (const auto others = twins.find(index); others != twins.end())
      for (const auto twin : others->second)
        std::erase(recipients, twin);
  }
  return struck;
}

void LeaseBook::reclaim(std::deque<Job>& jobs, const Wanted& wanted) {
  std::vector<Job> taken;
  for (auto& job : jobs) {
    auto struck = strike_out(job, wanted);
    if (struck.empty())
      continue;
    Job back = job;
    for (const auto index : struck) {
      std::erase(job.recipients, index);
      std::erase_if(job.refused, [&](const RecipientEnd& one) { return one.index == index; });
    }
    back.recipients = std::move(struck);
    taken.push_back(std::move(back));
  }
  std::erase_if(jobs, [](const Job& job) { return job.recipients.empty(); });
  for (const auto& job : taken) {
    log_refusals(*this, job);
    wanted.end(job);
    close(job.lease);
  }
}

LeaseBook::Wanted LeaseBook::find(std::vector<queue::Revocation>& wanted) {
  std::unordered_map<std::int64_t, queue::Revocation*> by_id;
  for (auto& one : wanted)
    by_id.emplace(one.id.value, &one);
  Wanted found;
  for (const auto& [handle, given] : in_hand_)
    if (const auto one = by_id.find(given->record.id.value); one != by_id.end())
      found.leases.emplace(handle, one->second);
  found.end = [this](const Job& job) { put_back(job); };
  return found;
}

void LeaseBook::log_attempt(const JobEnd& end, const RecipientEnd& result) const {
  if (!context_.log.enabled(Level::info))
    return;
  const auto in_ms = [](SteadyTime::duration value) {
    return std::chrono::duration_cast<Duration>(value);
  };
  const auto& given = *in_hand_.at(end.job.lease);
  const auto& message = *given.lease.message;
  maillog::Delays delays;
  const auto now = context_.steady();
  const auto began = std::max(end.job.handed_over, given.taken);
  delays.connecting = end.connecting;
  delays.waiting = std::max(in_ms(began - given.taken) - end.connecting, Duration(0));
  delays.sending = in_ms(now - began);
  delays.before =
      std::max(context_.clock.now() - message.received - in_ms(now - given.taken), Duration(0));
  maillog::attempted(context_.log, message, message.envelope.recipients[result.index],
                     result.outcome, delays, end.reused);
}

void LeaseBook::close(std::uint64_t handle) {
  const auto found = in_hand_.find(handle);
  if (found == in_hand_.end() || found->second->open > 0)
    return;
  auto done = std::move(found->second);
  in_hand_.erase(found);
  if (is_shared(done->lease) && needs_notice(done->lease, done->record)) {
    ++closing_;
    closed_.push_back(std::move(done));
    flush_later();
    return;
  }
  if (notices_.takes_long(done->lease, done->record)) {
    ++closing_;
    context_.home.spawn(close_with_notice(context_.alive(), std::move(done)), context_.log,
                        "notice");
    return;
  }
  notices_.make_now(done->lease, done->record);
  records_.push(std::move(done->record));
}

Task<void> LeaseBook::close_with_notice(std::shared_ptr<void> alive,
                                        std::unique_ptr<InHand> given) {
  co_await notices_.make(given->lease, given->record);
  --closing_;
  records_.push(std::move(given->record));
}

}  // namespace postrider::delivery
