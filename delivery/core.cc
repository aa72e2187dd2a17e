#include "delivery/core.h"

#include "base/file.h"
#include "base/text.h"
#include "delivery/job/job_outcome.h"
#include "mail/address.h"
#include "queue/listed_reasons.h"

#include <algorithm>
#include <unordered_map>

namespace postrider::delivery {

using mail::Stage;
using mail::Verdict;
using queue::Lease;
using Core = Dispatcher::Core;

namespace {

// A transaction carries at most this many recipients (RFC 5321 §4.5.3.1.8).
constexpr std::size_t kMostRecipients = 100;
constexpr unsigned kReaders = 2;
constexpr unsigned kExplainers = 2;  // who may hang in homes: only explanations wait for them then
constexpr auto kRememberEach = std::chrono::minutes(1);

// RFC 5321 §2.4: the local part as it is, the domain without regard to case; and what they mean,
// however they are quoted (§4.1.2) or encoded (RFC 5890 §2.3.2.4). Equal for two addresses of one
// mailbox; empty: it has no domain.
std::string mailbox_of(const mail::Recipient& recipient) {
  if (recipient.address.rfind('@') == std::string::npos)
    return {};
  return mail::mailbox_key(recipient.address) + '\0' + recipient.leaf + '\0';
}

}  // namespace

Core::Core(std::vector<Loop*> loops, std::unique_ptr<QueuePort> queue, ResolverOf resolver_of,
           const Clock& clock, Log& log, const mail::Directory& directory,
           std::shared_ptr<const DeliverySettings> settings)
    : context_{*loops.front(), std::move(queue), clock, log, std::move(settings)},
      pool_(kReaders),
      leases_(context_, pool_, [this] { check_drained(); }),
      sites_(context_, leases_),
      router_(context_, resolver_of, directory),
      tls_(context_, resolver_of),
      connections_(context_, std::move(loops), leases_, sites_, router_, tls_, pool_,
                   [this] { check_drained(); }),
      destinations_(context_, leases_, sites_, router_, tls_, connections_),
      local_(
          context_, leases_, directory,
          [this](const std::string& server, Job job) {
            destinations_.send_to_lmtp(server, std::move(job));
          },
          [this] { check_drained(); }),
      explaining_(kExplainers),
      explainer_(context_, leases_, sites_, router_, tls_, destinations_, local_, explaining_) {}

std::shared_ptr<Core> Core::create(std::vector<Loop*> loops, std::unique_ptr<QueuePort> queue,
                                   ResolverOf resolver_of, const Clock& clock, Log& log,
                                   const mail::Directory& directory,
                                   std::shared_ptr<const DeliverySettings> settings) {
  auto core = std::make_shared<Core>(std::move(loops), std::move(queue), std::move(resolver_of),
                                     clock, log, directory, std::move(settings));
  core->context_.owner = core;
  core->connections_.open_channels();
  return core;
}

void Core::configure(std::shared_ptr<const DeliverySettings> settings) {
  context_.settings = std::move(settings);
  destinations_.on_reload();
  sites_.on_reload();
}

// What is found of sites goes to its file each minute, if there is something new.
void Core::remember_soon() {
  if (context_.settings->site_memory.empty() || context_.is_draining)
    return;
  if (!remember_)
    remember_ = std::make_unique<Deadline>(home().deadlines(), [this] {
      auto text = is_remembering_ ? std::nullopt : sites_.take_memory();
      if (text)
        home().spawn(remember(shared_from_this(), context_.settings->site_memory, *std::move(text)),
                     context_.log, "memory of sites");
    });
  if (!remember_->is_set())
    remember_->set(kRememberEach);
}

Task<void> Core::remember(std::shared_ptr<Core> self, std::string file, std::string text) {
  is_remembering_ = true;
  const std::function<Result<void>()> write = [&file, &text] {
    return replace_file(file, text, 0600);
  };
  const auto written = co_await pool_.run<Result<void>>(home(), write);
  note_memory(written);
  is_remembering_ = false;
}

void Core::note_memory(const Result<void>& written) {
  if (!written)
    context_.log.write(
        LogEvent(Level::warn, "site_limits_not_kept").add("error", written.error().describe()));
}

void Core::take(std::vector<Lease> leases) {
  remember_soon();
  for (auto& lease : leases)
    take_one(std::move(lease));
}

void Core::take_one(Lease lease) {
  const bool is_for_delivery =
      lease.reason == Lease::Reason::fresh || lease.reason == Lease::Reason::due;
  const bool is_late = is_for_delivery && is_to_be_returned(*lease.message, context_.clock.now());
  if (is_late)
    lease.reason = Lease::Reason::expired;
  if (!is_for_delivery && lease.reason != Lease::Reason::bounce)
    add_waits(*lease.message, lease.recipients, Explainer::kUnusual);
  const auto handle = leases_.open(std::move(lease));
  if (is_for_delivery && !is_late)
    begin(handle);
  else
    leases_.give_up(handle);
  leases_.close(handle);
}

// What nothing was heard of yet: it waits for its site's rate, a connection or an answer, as
// listings say it.
void Core::add_waits(const mail::Message& message, std::vector<Lease::Recipient>& recipients,
                     Duration least) const {
  std::vector<std::string> addresses;
  std::vector<Lease::Recipient*> waiting;
  for (auto& one : recipients)
    if (!one.last || one.last->text == queue::kBeingTried) {
      addresses.push_back(one.next_hop.empty() ? message.envelope.recipients[one.index].address
                                               : one.next_hop);
      waiting.push_back(&one);
    }
  const auto reasons = explainer_.reasons_of(addresses, least);
  for (std::size_t i = 0; i < waiting.size(); ++i)
    if (!reasons[i].empty()) {
      waiting[i]->last = mail::Outcome();
      waiting[i]->last->status = {4, 4, 7};
      waiting[i]->last->text = reasons[i];
    }
}

// Which domains are ours, and where others' mail goes, a database may have to say: this loop does
// not wait for it.
void Core::begin(std::uint64_t handle) {
  const auto& lease = leases_.lease(handle);
  const auto& recipients = lease.message->envelope.recipients;
  Router::Known known;
  bool is_known = true;
  for (const auto& leased : lease.recipients)
    is_known = is_known && router_.look_up(recipients[leased.index], known);
  if (is_known)
    return route(handle, known);
  Job all;
  all.lease = handle;
  all.message = lease.message;
  for (const auto& leased : lease.recipients)
    all.recipients.push_back(leased.index);
  std::vector<std::string> addresses;
  for (const auto& leased : lease.recipients)
    if (recipients[leased.index].leaf.empty())
      addresses.push_back(recipients[leased.index].address);
  unrouted_.emplace(handle, std::move(all));
  home().spawn(ask_tables(shared_from_this(), handle, std::move(addresses)), context_.log,
               "tables of domains and routes");
}

Task<void> Core::ask_tables(std::shared_ptr<Core> self, std::uint64_t handle,
                            std::vector<std::string> addresses) {
  const auto known = co_await router_.ask_tables(std::move(addresses));
  auto all = unrouted_.extract(handle);
  if (!all)  // taken back
    co_return;
  route(handle, known, &all.mapped());
  leases_.close(handle);
}

// left: those of its recipients who are still to be tried; null: all.
void Core::route(std::uint64_t handle, const Router::Known& known, const Job* left) {
  const auto& lease = leases_.lease(handle);
  struct Group {
    RouteDecision way;
    Job job;
  };
  std::vector<Group> groups;
  std::unordered_map<std::string, std::size_t> by_key;
  std::unordered_map<std::string, std::uint32_t> first_of;  // by mailbox and way
  // RFC 8689 §5: a notice is rather sent without what its message demanded than lost.
  const auto& envelope = lease.message->envelope;
  const bool is_notice = envelope.sender.empty() && envelope.tls == mail::TlsWish::required;
  const auto wish = is_notice ? mail::TlsWish::unspecified : envelope.tls;
  for (const auto& leased : lease.recipients) {
    if (left != nullptr &&
        !std::binary_search(left->recipients.begin(), left->recipients.end(), leased.index))
      continue;
    auto chosen = leased.next_hop.empty() ? std::nullopt : router_.rerouted(leased.next_hop, wish);
    auto way =
        chosen ? *std::move(chosen)
               : router_.decide(envelope.recipients[leased.index], &envelope.sender, wish, known);
    const auto mailbox =
        lease.recipients.size() > 1 ? mailbox_of(envelope.recipients[leased.index]) : std::string();
    if (!mailbox.empty()) {
      const auto [first, is_new] = first_of.emplace(mailbox + way.key, leased.index);
      if (!is_new) {
        leases_.add_twin(handle, first->second, leased.index);
        continue;
      }
    }
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
      group.job.in_doubt = connections_.take_doubt(lease.message->id);
      group.job.recipients.push_back(leased.index);
      continue;
    }
    groups[found->second].job.recipients.push_back(leased.index);
  }
  for (auto& group : groups) {
    if (context_.is_draining)
      leases_.put_back(group.job);
    else
      send_by(group.way, std::move(group.job));
  }
}

void Core::send_by(const RouteDecision& way, Job job) {
  switch (way.kind) {
    case RouteDecision::Kind::mx:
      destinations_.send_by_mx(way, std::move(job));
      break;
    case RouteDecision::Kind::local:
      local_.deliver(std::move(job));
      break;
    case RouteDecision::Kind::fixed:
      destinations_.send_to_host(way, std::move(job));
      break;
    case RouteDecision::Kind::error: {
      const auto& hop = way.route->next_hop;
      const auto status =
          mail::parse_enhanced_code(hop.status).value_or(mail::EnhancedCode{5, 0, 0});
      const auto verdict = status.klass == 5 ? Verdict::bounce : Verdict::retry;
      leases_.settle_all(job, delivery::decide(verdict, Stage::route, status, hop.text));
      break;
    }
    case RouteDecision::Kind::discard:
      leases_.settle_all(job, delivery::decide(Verdict::delivered, Stage::route, {2, 0, 0},
                                               "discarded by a route"));
      break;
  }
}

void Core::revoke(std::vector<queue::Revocation> wanted, queue::Consumer::UnderWay answer) {
  reclaim(leases_.find(wanted));
  answer(std::move(wanted));
}

void Core::ask(std::vector<queue::Revocation> wanted, const queue::Consumer::UnderWay& answer) {
  const auto in_hand = leases_.find(wanted);
  const auto note = [&](const Job& job) { (void)leases_.strike_out(job, in_hand); };
  if (!in_hand.leases.empty()) {
    for (const auto& [name, site] : sites_.all()) {
      site->ready.each(note);
      std::for_each(site->refused.begin(), site->refused.end(), note);
    }
    destinations_.each_waiting(note);
    local_.each_waiting(note);
    for (const auto& [handle, job] : unrouted_)
      note(job);
  }
  answer(std::move(wanted));
}

// Why it waits is known before it leaves.
void Core::expire(std::vector<queue::Overdue> late) {
  std::vector<queue::Revocation> wanted;
  std::unordered_map<std::int64_t, queue::Overdue*> by_id;
  for (auto& one : late) {
    by_id.emplace(one.id.value, &one);
    wanted.push_back({one.id, {}});
    for (const auto& recipient : one.recipients)
      wanted.back().recipients.push_back(recipient.index);
  }
  auto in_hand = leases_.find(wanted);
  LeaseBook::LastKnown known;
  for (const auto& [handle, of] : in_hand.leases) {
    const auto& message = *leases_.lease(handle).message;
    const auto [at, is_new] = known.try_emplace(message.id.value);
    if (!is_new)
      continue;
    auto& recipients = by_id.at(message.id.value)->recipients;
    add_waits(message, recipients, Duration(0));
    for (auto& recipient : recipients)
      if (recipient.last && recipient.last->text != queue::kBeingTried)
        at->second.emplace(recipient.index, *std::move(recipient.last));
  }
  in_hand.end = [&](const Job& job) { leases_.expire(job, known); };
  reclaim(in_hand);
}

void Core::reclaim(const LeaseBook::Wanted& wanted) {
  if (wanted.leases.empty())
    return;
  for (const auto& [name, site] : sites_.all()) {
    bool has_any = false;
    site->ready.each([&](const Job& job) { has_any = has_any || wanted.has_any_of(job); });
    if (has_any) {
      auto ready = site->ready.take_all();
      leases_.reclaim(ready, wanted);
      for (auto& job : ready)
        site->ready.add(std::move(job));
    }
    leases_.reclaim(site->refused, wanted);
  }
  destinations_.reclaim(wanted);
  local_.reclaim(wanted);
  reclaim_unrouted(wanted);
}

void Core::reclaim_unrouted(const LeaseBook::Wanted& wanted) {
  std::deque<Job> jobs;
  for (const auto& [handle, of] : wanted.leases)
    if (auto all = unrouted_.extract(handle))
      jobs.push_back(std::move(all.mapped()));
  leases_.reclaim(jobs, wanted);
  for (auto& job : jobs) {
    const auto handle = job.lease;
    unrouted_.emplace(handle, std::move(job));
  }
}

Status Core::status() const {
  Status status;
  const auto& recipients = leases_.counts();
  status.delivered = recipients.delivered;
  status.deferred = recipients.deferred;
  status.bounced = recipients.bounced;
  status.timings = context_.timings;
  const auto& made = connections_.counts();
  status.connections_opened = made.opened;
  status.connections_failed = made.failed;
  status.messages_on_reused = made.messages_on_reused;
  status.connections = static_cast<std::uint32_t>(connections_.size());
  status.leases = static_cast<std::uint32_t>(leases_.size());
  explainer_.add_sites(status);
  return status;
}

void Core::drain(std::function<void()> on_done, Duration grace) {
  context_.is_draining = true;
  on_drained_ = std::move(on_done);
  destinations_.drain();
  local_.drain();
  for (const auto& [name, site] : sites_.all())
    sites_.put_back_ready(*site, mail::Outcome());
  connections_.close_all();
  grace_ = std::make_unique<Deadline>(home().deadlines(), [this] {
    local_.stop();
    connections_.abort_all();
  });
  grace_->set(grace);
  check_drained();
}

void Core::check_drained() {
  if (!context_.is_draining || !on_drained_ || !leases_.is_settled() || connections_.size() > 0)
    return;
  grace_.reset();
  remember_.reset();
  if (const auto& file = context_.settings->site_memory; !file.empty() && !is_remembering_)
    if (const auto text = sites_.take_memory())
      note_memory(replace_file(file, *text, 0600));
  std::exchange(on_drained_, nullptr)();
}

}  // namespace postrider::delivery
