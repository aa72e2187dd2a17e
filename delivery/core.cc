#include "delivery/core.h"

#include "base/assert.h"
#include "base/text.h"
#include "delivery/job/job_outcome.h"
#include "delivery/notices.h"
#include "queue/schedule.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;
using queue::Lease;
using Core = Dispatcher::Core;

namespace {

// A transaction carries at most this many recipients (RFC 5321 §4.5.3.1.8).
constexpr std::size_t kMostRecipients = 100;
constexpr unsigned kReaders = 2;
constexpr unsigned kAskers = 2;
// What is known of some recipients is recorded so long after it became known, whatever the others
// do: a crash would repeat it.
constexpr auto kKnown = std::chrono::milliseconds(700);

// RFC 5321 §2.4: the local part as it is, the domain without regard to case.
bool is_same_mailbox(const mail::Recipient& a, const mail::Recipient& b) {
  if (a.address.size() != b.address.size() || a.leaf != b.leaf)
    return false;
  const auto at = a.address.rfind('@');
  return at != std::string::npos && a.address.compare(0, at, b.address, 0, at) == 0 &&
         equals_ignoring_case(a.address, b.address);
}

Outcome expired(const Lease::Recipient& recipient) {
  auto outcome = recipient.last.value_or(Outcome());
  const auto last = recipient.last ? outcome.reason() : "it could not be tried";
  outcome.verdict = Verdict::bounce;
  outcome.stage = Stage::expired;
  outcome.status = {5, 4, 7};  // RFC 3463: delivery time expired
  outcome.text = "the message was too long in the queue; last: " + last;
  return outcome;
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

}  // namespace

Core::Core(std::vector<Loop*> loops, std::unique_ptr<QueuePort> custody, ResolverOf resolver_of,
           const Clock& clock, Log& log, const mail::Directory& directory,
           std::shared_ptr<const DeliverySettings> settings)
    : loops_(std::move(loops)),
      custody_(std::move(custody)),
      resolver_of_(std::move(resolver_of)),
      clock_(clock),
      log_(log),
      directory_(directory),
      settings_(std::move(settings)),
      pool_(std::make_unique<BlockingPool>(kReaders)),
      tables_(std::make_unique<BlockingPool>(kAskers)) {}

Core::~Core() = default;

std::shared_ptr<Core> Core::create(std::vector<Loop*> loops, std::unique_ptr<QueuePort> custody,
                                   ResolverOf resolver_of, const Clock& clock, Log& log,
                                   const mail::Directory& directory,
                                   std::shared_ptr<const DeliverySettings> settings) {
  auto core = std::make_shared<Core>(std::move(loops), std::move(custody), std::move(resolver_of),
                                     clock, log, directory, std::move(settings));
  core->open_postbags();
  core->open_local();
  return core;
}

void Core::open_postbags() {
  const std::weak_ptr<Core> weak = weak_from_this();
  for (auto* loop : loops_) {
    sessions_.push_back(std::make_shared<TlsSessions>());
    to_loops_.push_back(
        std::make_shared<BatchChannel<Handover>>(home(), *loop, [](std::vector<Handover> jobs) {
          for (auto& one : jobs)
            one.courier->take(std::move(one.job));
        }));
    from_loops_.push_back(std::make_shared<BatchChannel<CourierEvent>>(
        *loop, home(), [weak](std::vector<CourierEvent> events) {
          if (const auto core = weak.lock())
            for (auto& event : events)
              core->on_event(std::move(event));
        }));
  }
}

void Core::configure(std::shared_ptr<const DeliverySettings> settings) {
  settings_ = std::move(settings);
  for (auto& [key, destination] : destinations_)
    destination->known_until = {};
  for (auto& [name, site] : sites_) {
    site->found_until = {};
    if (!site->alarm.empty())
      open_again(*site);  // perhaps it has been put right
  }
}

void Core::take(std::vector<Lease> leases) {
  for (auto& lease : leases)
    take_one(std::move(lease));
}

void Core::take_one(Lease lease) {
  const auto handle = ++next_handle_;
  auto owned = std::make_unique<InHand>();
  auto& in_hand = *owned;
  in_hand.record.id = lease.message->id;
  in_hand.open = lease.recipients.size();
  in_hand.taken = steady();
  in_hand.lease = std::move(lease);
  in_hand_.emplace(handle, std::move(owned));
  const auto reason = in_hand.lease.reason;
  if (reason == Lease::Reason::fresh || reason == Lease::Reason::due)
    begin(handle, in_hand);
  else
    give_up(in_hand);
  close_if_done(handle);
}

// Leases that ask for no attempt.
void Core::give_up(InHand& in_hand) {
  const auto& lease = in_hand.lease;
  in_hand.open = 0;
  for (const auto& recipient : lease.recipients) {
    if (lease.reason == Lease::Reason::delay_notice) {
      in_hand.record.untried.push_back(recipient.index);
      continue;
    }
    auto outcome =
        lease.reason == Lease::Reason::expired ? expired(recipient) : by_administrator(recipient);
    maillog::bounced(log_, *lease.message, lease.message->envelope.recipients[recipient.index],
                     outcome);
    ++counters_.bounced;
    in_hand.record.results.push_back({recipient.index, std::move(outcome), {}});
  }
  in_hand.record.delay_notice_sent = lease.reason == Lease::Reason::delay_notice;
}

// Which domains are ours a database may have to say: this loop does not wait for it.
void Core::begin(std::uint64_t handle, InHand& in_hand) {
  const auto& recipients = in_hand.lease.message->envelope.recipients;
  LocalDomains local;
  bool is_known = true;
  for (const auto& leased : in_hand.lease.recipients)
    is_known = is_known && look_up_local(recipients[leased.index], local);
  if (is_known)
    return route(handle, in_hand, local);
  std::vector<std::string> domains;
  for (const auto& leased : in_hand.lease.recipients)
    domains.push_back(mail::domain_of(recipients[leased.index].address));
  home().spawn(find_domains(shared_from_this(), handle, std::move(domains)), log_, "local domains");
}

Task<void> Core::find_domains(std::shared_ptr<Core> self, std::uint64_t handle,
                              std::vector<std::string> domains) {
  const auto local = co_await ask_tables(std::move(domains));
  const auto found = in_hand_.find(handle);
  if (found == in_hand_.end())
    co_return;
  route(handle, *found->second, local);
  close_if_done(handle);
}

void Core::route(std::uint64_t handle, InHand& in_hand, const LocalDomains& local) {
  const auto& lease = in_hand.lease;
  struct Group {
    RouteDecision way;
    Job job;
  };
  std::vector<Group> groups;
  std::unordered_map<std::string, std::size_t> by_key;
  // RFC 8689 §5: a notice is rather sent without what its message demanded than lost.
  const auto& envelope = lease.message->envelope;
  const bool is_notice = envelope.sender.empty() && envelope.tls == mail::TlsWish::required;
  const auto wish = is_notice ? mail::TlsWish::unspecified : envelope.tls;
  for (const auto& leased : lease.recipients) {
    auto way = find_way(lease.message->envelope.recipients[leased.index], wish, local);
    const auto found = lease.recipients.size() > 1 ? by_key.find(way.key) : by_key.end();
    const bool joins =
        found != by_key.end() && groups[found->second].job.recipients.size() < kMostRecipients;
    if (!joins) {
      if (lease.recipients.size() > 1)
        by_key[way.key] = groups.size();
      auto& group = groups.emplace_back();
      group.way = std::move(way);
      group.job.lease = handle;
      group.job.message = lease.message;
      group.job.in_doubt = !in_doubt_.empty() && in_doubt_.erase(lease.message->id.value) > 0;
      group.job.recipients.push_back(leased.index);
      continue;
    }
    add_twin(in_hand, groups[found->second].job, leased.index);
  }
  for (auto& group : groups) {
    if (is_draining_)
      put_back(group.job);
    else
      send_by(group.way, std::move(group.job));
  }
}

void Core::add_twin(InHand& in_hand, Job& job, std::uint32_t index) const {
  const auto& recipients = job.message->envelope.recipients;
  const auto first = std::find_if(
      job.recipients.begin(), job.recipients.end(),
      [&](std::uint32_t known) { return is_same_mailbox(recipients[known], recipients[index]); });
  if (first == job.recipients.end())
    job.recipients.push_back(index);
  else
    in_hand.twins[*first].push_back(index);
}

void Core::send_by(const RouteDecision& way, Job job) {
  switch (way.kind) {
    case RouteDecision::Kind::mx:
      send_by_mx(way, std::move(job));
      break;
    case RouteDecision::Kind::local:
      local_->add(std::move(job));
      break;
    case RouteDecision::Kind::fixed: {
      auto& site = fixed_site(*way.route, way.tls);
      if (!site.is_aside)
        assign(way.domain, site.name);
      add_job(site, std::move(job));
      break;
    }
    case RouteDecision::Kind::error: {
      const auto& hop = way.route->next_hop;
      const auto status =
          mail::parse_enhanced_code(hop.status).value_or(mail::EnhancedCode{5, 0, 0});
      const auto verdict = status.klass == 5 ? Verdict::bounce : Verdict::retry;
      settle_all(job, decide(verdict, Stage::route, status, hop.text));
      break;
    }
    case RouteDecision::Kind::discard:
      settle_all(job, decide(Verdict::delivered, Stage::route, {2, 0, 0}, "discarded by a route"));
      break;
  }
}

void Core::settle(std::uint64_t lease, std::uint32_t index, Outcome outcome,
                  std::optional<Duration> again_within, std::uint64_t site) {
  const auto found = in_hand_.find(lease);
  POSTRIDER_ASSERT(found != in_hand_.end() && found->second->open > 0);
  auto& in_hand = *found->second;
  queue::Record::Result result;
  result.index = index;
  if (outcome.verdict == Verdict::retry) {
    ++counters_.deferred;
    const auto& leased = in_hand.lease.recipients;
    const auto recipient = std::find_if(leased.begin(), leased.end(),
                                        [&](const auto& one) { return one.index == index; });
    POSTRIDER_ASSERT(recipient != leased.end());
    result.next_attempt = next_attempt(in_hand, recipient->attempts, site, again_within);
  } else {
    ++(outcome.verdict == Verdict::delivered ? counters_.delivered : counters_.bounced);
  }
  result.outcome = std::move(outcome);
  const auto twins = in_hand.twins.extract(index);
  if (twins)
    for (const auto twin : twins.mapped()) {
      JobEnd end;
      end.job.handed_over = steady();
      log_attempt(in_hand, end, {twin, result.outcome});
      settle(lease, twin, result.outcome, again_within, site);
    }
  in_hand.record.results.push_back(std::move(result));
  --in_hand.open;
  record_soon(lease, in_hand);
}

// Drawn once for a message and site.
TimePoint Core::next_attempt(InHand& in_hand, std::uint32_t attempts, std::uint64_t site,
                             std::optional<Duration> again_within) {
  const auto now = clock_.now();
  auto wait = queue::retry_wait(settings_->retry, attempts + 1, random_);
  if (again_within)
    return now + std::min<Duration>(wait, *again_within * (attempts + 1));
  for (auto& known : in_hand.waits)
    if (known.site == site && known.attempts == attempts) {
      if (known.until < now + wait / 2)
        known.until = now + wait;
      return known.until;
    }
  in_hand.waits.push_back({site, attempts, now + wait});
  return now + wait;
}

void Core::record_soon(std::uint64_t handle, InHand& in_hand) {
  if (in_hand.open == 0 || std::exchange(in_hand.is_partly_known, true))
    return;
  partly_known_.push_back(handle);
  if (!record_known_)
    record_known_ = std::make_unique<Deadline>(home().deadlines(), [this] { record_known(); });
  if (!record_known_->is_set())
    record_known_->set(kKnown);
}

void Core::record_known() {
  for (const auto handle : std::exchange(partly_known_, {}))
    if (const auto found = in_hand_.find(handle); found != in_hand_.end())
      record_part(handle, *found->second);
}

// What has ended; the lease goes on for the rest.
void Core::record_part(std::uint64_t handle, InHand& in_hand) {
  in_hand.is_partly_known = false;
  if (in_hand.open == 0 || (in_hand.record.results.empty() && in_hand.record.untried.empty()))
    return;
  queue::Record part;
  part.id = in_hand.record.id;
  part.partial = true;
  part.results = std::exchange(in_hand.record.results, {});
  part.untried = std::exchange(in_hand.record.untried, {});
  part.notices = std::exchange(in_hand.record.notices, {});
  const auto& bytes = in_hand.lease.message->content.bytes;
  if (makes_slow_notice(in_hand.lease, part)) {
    ++in_hand.open;  // so that its last record comes behind this one
    home().spawn(record_part_with_notice(shared_from_this(), handle, std::move(part)), log_,
                 "notice");
    return;
  }
  const NoticeContext context{*settings_, *custody_, log_, random_, clock_.now()};
  add_notices(in_hand.lease, bytes ? std::string_view(*bytes) : std::string_view(), part, context);
  push(std::move(part));
}

Task<void> Core::record_part_with_notice(std::shared_ptr<Core> self, std::uint64_t handle,
                                         queue::Record part) {
  auto& in_hand = *in_hand_.at(handle);
  co_await make_notices(in_hand.lease, part);
  push(std::move(part));
  --in_hand.open;
  close_if_done(handle);
}

// Without a conversation: the same end for all recipients.
void Core::settle_all(const Job& job, const Outcome& outcome) {
  const auto found = in_hand_.find(job.lease);
  POSTRIDER_ASSERT(found != in_hand_.end());
  JobEnd end;
  end.job = job;
  end.job.handed_over = steady();
  for (const auto index : job.recipients) {
    log_attempt(*found->second, end, {index, outcome});
    settle(job.lease, index, outcome);
  }
}

void Core::put_back(const Job& job) {
  const auto found = in_hand_.find(job.lease);
  POSTRIDER_ASSERT(found != in_hand_.end());
  auto& in_hand = *found->second;
  auto all = job.recipients;
  for (const auto index : job.recipients)
    if (const auto twins = in_hand.twins.extract(index))
      all.insert(all.end(), twins.mapped().begin(), twins.mapped().end());
  POSTRIDER_ASSERT(in_hand.open >= all.size());
  in_hand.record.untried.insert(in_hand.record.untried.end(), all.begin(), all.end());
  in_hand.open -= all.size();
  record_soon(job.lease, in_hand);
}

void Core::log_attempt(const InHand& in_hand, const JobEnd& end, const RecipientEnd& result) {
  if (!log_.enabled(Level::info))
    return;
  const auto in_ms = [](SteadyTime::duration value) {
    return std::chrono::duration_cast<Duration>(value);
  };
  const auto& message = *in_hand.lease.message;
  maillog::Delays delays;
  const auto now = steady();
  const auto began = std::max(end.job.handed_over, in_hand.taken);
  delays.connecting = end.connecting;
  delays.waiting = std::max(in_ms(began - in_hand.taken) - end.connecting, Duration(0));
  delays.sending = in_ms(now - began);
  delays.before =
      std::max(clock_.now() - message.received - in_ms(now - in_hand.taken), Duration(0));
  maillog::attempted(log_, message, message.envelope.recipients[result.index], result.outcome,
                     delays, end.reused);
}

void Core::close_if_done(std::uint64_t handle) {
  const auto found = in_hand_.find(handle);
  if (found == in_hand_.end() || found->second->open > 0)
    return;
  auto done = std::move(found->second);
  in_hand_.erase(found);
  if (makes_slow_notice(done->lease, done->record)) {
    ++closing_;
    home().spawn(close_with_notice(shared_from_this(), std::move(done)), log_, "notice");
    return;
  }
  const auto& bytes = done->lease.message->content.bytes;
  const std::string_view original = bytes ? std::string_view(*bytes) : std::string_view();
  finish(std::move(done), original);
}

Task<void> Core::close_with_notice(std::shared_ptr<Core> self, std::unique_ptr<InHand> in_hand) {
  co_await make_notices(in_hand->lease, in_hand->record);
  --closing_;
  push(std::move(in_hand->record));
}

// Of a large original, or one that will be signed: the pool has time for that.
bool Core::makes_slow_notice(const queue::Lease& lease, const queue::Record& record) const {
  const auto& signer = settings_->signer;
  const bool is_slow =
      !lease.message->content.bytes || (signer && signer->now_for(mailauth::SigningRole::notices));
  return is_slow && needs_notice(lease, record);
}

Task<void> Core::make_notices(const queue::Lease& lease, queue::Record& record) {
  const auto bytes = lease.message->content.bytes;
  std::string beginning;
  if (!bytes)
    beginning = co_await read_original(lease.message);
  const NoticeContext context{*settings_, *custody_, log_, random_, clock_.now()};
  add_notices(lease, bytes ? std::string_view(*bytes) : std::string_view(beginning), record,
              context);
  const auto signer = settings_->signer;
  if (!signer || record.notices.empty())
    co_return;
  const std::function<bool()> sign = [&record, signer, &log = log_, now = context.now] {
    for (auto& notice : record.notices)
      mailauth::sign_own(*signer, notice.message, log, now);
    return true;
  };
  (void)co_await pool_->run<bool>(home(), sign);
}

// The beginning of a large original is read on the pool.
Task<std::string> Core::read_original(std::shared_ptr<const mail::Message> message) {
  std::function<std::string()> read = [custody = custody_.get(), message = std::move(message)] {
    const OpenBody open_body = [custody](const mail::Message& of) {
      return custody->open_body(of);
    };
    auto bytes = load_bytes(*message, open_body, kMostQuoted);
    return bytes ? *std::move(bytes) : std::string();
  };
  auto original = co_await pool_->run<std::string>(home(), std::move(read));
  co_return original;
}

void Core::finish(std::unique_ptr<InHand> in_hand, std::string_view original) {
  const NoticeContext context{*settings_, *custody_, log_, random_, clock_.now()};
  add_notices(in_hand->lease, original, in_hand->record, context);
  push(std::move(in_hand->record));
}

// What ends in one turn of the loop goes to the queue in one call.
void Core::push(queue::Record record) {
  records_.push_back(std::move(record));
  if (std::exchange(flush_is_posted_, true))
    return;
  home().post([self = shared_from_this()] { self->flush_records(); });
}

void Core::flush_records() {
  flush_is_posted_ = false;
  custody_->record(std::exchange(records_, {}));
  check_drained();
}

void Core::drain(std::function<void()> on_done, Duration grace) {
  is_draining_ = true;
  on_drained_ = std::move(on_done);
  for (auto& [key, destination] : destinations_) {
    auto waiting = std::exchange(destination->waiting, {});
    for (const auto& job : waiting) {
      put_back(job);
      close_if_done(job.lease);
    }
  }
  local_->drain();
  for (auto& [name, site] : sites_) {
    put_back_all(*site, Outcome());
    for (auto& link : site->links)
      close_link(*link);
  }
  grace_ = std::make_unique<Deadline>(home().deadlines(), [this] {
    performer_->stop();
    for (auto& [name, site] : sites_)
      for (auto& link : site->links)
        link->courier->loop().post([courier = link->courier] { courier->abort(); });
  });
  grace_->set(grace);
  check_drained();
}

void Core::check_drained() {
  if (!is_draining_ || !on_drained_ || !in_hand_.empty() || links_ > 0 || closing_ > 0 ||
      flush_is_posted_)
    return;
  grace_.reset();
  std::exchange(on_drained_, nullptr)();
}

}  // namespace postrider::delivery
