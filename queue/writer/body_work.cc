#include "queue/writer/body_work.h"

#include <algorithm>
#include <future>

namespace postrider::queue {

namespace {

// Bodies that are read at one time. A file that hangs keeps one of these threads for good, and must
// not keep the others' mail.
constexpr unsigned kCheckers = 4;

}  // namespace

void BodyWork::start(Consumer* consumer) {
  consumer_ = consumer;
  checks_.emplace(kCheckers);
}

void BodyWork::stop() {
  ending_ = true;
  checks_.reset();
}

void BodyWork::hand_out(Effects& effects) {
  for (const auto& check_of : effects.checks) {
    const auto at =
        std::find_if(effects.leases.begin(), effects.leases.end(),
                     [&](const auto& lease) { return lease.message->id == check_of.id; });
    if (at == effects.leases.end())
      continue;
    if (checks_)
      check(std::move(*at), check_of.checksum);
    effects.leases.erase(at);
  }
  if (!effects.leases.empty())
    consumer_->take(std::move(effects.leases));
}

void BodyWork::check(Lease lease, std::uint32_t checksum) {
  const auto number = ++last_check_;
  const auto message = lease.message;
  {
    const std::lock_guard lock(mutex_);
    checking_.emplace(number, std::move(lease));
  }
  checks_->post([this, number, message, checksum] { check_body(number, *message, checksum); });
}

// On a thread of the pool.
void BodyWork::check_body(std::uint64_t number, const mail::Message& message,
                          std::uint32_t checksum) {
  auto read = spool_.checksum_of_body(message, ending_);
  if (ending_)
    return;  // the next start leases it again
  // The consumer has it before anybody can ask for it back elsewhere.
  const std::lock_guard lock(mutex_);
  auto checked = checking_.extract(number);
  auto& lease = checked.mapped();
  if (read && *read == checksum) {
    if (lease.recipients.empty())
      return;
    std::vector<Lease> one;
    one.push_back(std::move(lease));
    consumer_->take(std::move(one));
    return;
  }
  const bool is_damaged = read ? true : read.error().code() == Errc::corrupt;
  if (!is_damaged)
    log_.write(LogEvent(Level::warn, "content_unreadable", to_string(message.id))
                   .add("reason", read.error().describe()));
  Record back;
  back.id = message.id;
  back.lease = lease.number;
  for (const auto& recipient : lease.recipients)
    back.untried.push_back(recipient.index);
  inbox_.give([&](Inbox& inbox) {
    if (is_damaged)
      inbox.quarantines.push_back({back.id, read ? "the content is not what was stored (checksum)"
                                                 : read.error().describe()});
    if (!back.untried.empty())
      inbox.records.push_back(std::move(back));
    return Urgency::soon;
  });
}

void BodyWork::revoke(std::vector<Revocation> wanted, UnderWay answer) {
  const std::lock_guard lock(mutex_);
  std::unordered_map<std::int64_t, Revocation*> by_id;
  if (!checking_.empty())
    for (auto& one : wanted)
      by_id.emplace(one.id.value, &one);
  for (auto& [number, lease] : checking_)
    if (lease.reason == Lease::Reason::fresh || lease.reason == Lease::Reason::due)
      if (const auto at = by_id.find(lease.message->id.value); at != by_id.end())
        take_back(lease, *at->second);
  consumer_->revoke(std::move(wanted), std::move(answer));
}

void BodyWork::ask(std::vector<Revocation> wanted, UnderWay answer) {
  const std::lock_guard lock(mutex_);
  for (const auto& [number, lease] : checking_)
    for (auto& one : wanted)
      if (one.id == lease.message->id)
        for (const auto& recipient : lease.recipients)
          std::erase(one.recipients, recipient.index);
  consumer_->ask(std::move(wanted), std::move(answer));
}

// What comes back from here is leased again, as expired.
void BodyWork::expire(std::vector<Overdue> late) {
  const std::lock_guard lock(mutex_);
  std::unordered_map<std::int64_t, Overdue*> by_id;
  if (!checking_.empty())
    for (auto& one : late)
      by_id.emplace(one.id.value, &one);
  for (auto& [number, lease] : checking_) {
    const auto found = by_id.find(lease.message->id.value);
    if (found == by_id.end() ||
        (lease.reason != Lease::Reason::fresh && lease.reason != Lease::Reason::due))
      continue;
    auto& recipients = found->second->recipients;
    Revocation wanted{lease.message->id, {}};
    for (const auto& recipient : recipients)
      wanted.recipients.push_back(recipient.index);
    take_back(lease, wanted);
    std::erase_if(recipients, [&](const Lease::Recipient& recipient) {
      return !std::binary_search(wanted.recipients.begin(), wanted.recipients.end(),
                                 recipient.index);
    });
  }
  std::erase_if(late, [](const Overdue& one) { return one.recipients.empty(); });
  if (!late.empty())
    consumer_->expire(std::move(late));
}

// The file goes on being read; nobody is sent what is in it.
void BodyWork::take_back(Lease& lease, Revocation& wanted) {
  Record back;
  back.id = lease.message->id;
  back.lease = lease.number;
  std::erase_if(lease.recipients, [&](const Lease::Recipient& recipient) {
    if (std::erase(wanted.recipients, recipient.index) == 0)
      return false;
    back.untried.push_back(recipient.index);
    return true;
  });
  if (back.untried.empty())
    return;
  back.partial = !lease.recipients.empty();
  inbox_.give([&](Inbox& inbox) {
    inbox.records.push_back(std::move(back));
    return Urgency::soon;
  });
}

void BodyWork::remove(std::vector<std::string> files) {
  removals_.post([this, files = std::move(files)] {
    (void)spool_.remove_left();  // the disk may have recovered
    for (const auto& name : files)
      spool_.remove_body(name);
  });
}

bool BodyWork::finish_removals() {
  std::promise<bool> removed;
  removals_.post([&] { removed.set_value(spool_.remove_left()); });  // behind all the others
  return removed.get_future().get();
}

}  // namespace postrider::queue
