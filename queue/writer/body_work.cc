#include "queue/writer/body_work.h"

#include <algorithm>
#include <future>

namespace postrider::queue {

void BodyWork::start(Consumer* consumer) {
  consumer_ = consumer;
  checks_.emplace(1U);
}

void BodyWork::stop() {
  ending_ = true;
  checks_.reset();
}

void BodyWork::hand_out(Effects& effects) {
  for (const auto& check : effects.checks) {
    const auto at = std::find_if(effects.leases.begin(), effects.leases.end(),
                                 [&](const auto& lease) { return lease.message->id == check.id; });
    if (at == effects.leases.end())
      continue;
    if (checks_)
      checks_->post([this, lease = std::move(*at), checksum = check.checksum]() mutable {
        check_body(std::move(lease), checksum);
      });
    effects.leases.erase(at);
  }
  if (!effects.leases.empty())
    consumer_->take(std::move(effects.leases));
}

// On a thread of the pool.
void BodyWork::check_body(Lease lease, std::uint32_t checksum) {
  auto read = spool_.checksum_of_body(*lease.message, ending_);
  if (ending_)
    return;  // the next start leases it again
  if (read && *read == checksum) {
    std::vector<Lease> one;
    one.push_back(std::move(lease));
    consumer_->take(std::move(one));
    return;
  }
  Record back;
  back.id = lease.message->id;
  for (const auto& recipient : lease.recipients)
    back.untried.push_back(recipient.index);
  const bool is_damaged = read ? true : read.error().code() == Errc::corrupt;
  if (!is_damaged)
    log_.write(LogEvent(Level::warn, "content_unreadable", to_string(back.id))
                   .add("reason", read.error().describe()));
  inbox_.give([&](Inbox& inbox) {
    if (is_damaged)
      inbox.quarantines.push_back({back.id, read ? "the content is not what was stored (checksum)"
                                                 : read.error().describe()});
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
