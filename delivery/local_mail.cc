#include "delivery/local_mail.h"

#include "delivery/delivery_log.h"

#include <algorithm>

namespace postrider::delivery {

LocalMail::LocalMail(DispatchContext& context, LeaseBook& leases, const mail::Directory& directory,
                     ToLmtp to_lmtp, std::function<void()> on_end)
    : context_(context), leases_(leases), directory_(directory), on_end_(std::move(on_end)) {
  LocalRunner::Limits limits;
  limits.slots = std::max(1U, context_.settings->local.deliveries);
  LocalRunner::Host host;
  host.prepare = [this](const Job& job) {
    leases_.note_attempt(job.lease);
    return prepare(job);
  };
  host.ended = [this](const Job& job, LocalResult result) { on_ended(job, std::move(result)); };
  host.to_lmtp = std::move(to_lmtp);
  host.put_back = [this](const Job& job) { put_back(job); };
  runner_ = std::make_shared<LocalRunner>(context_.home, context_.clock, limits, std::move(host));
}

LocalDelivery LocalMail::prepare(const Job& job) const {
  LocalDelivery delivery;
  delivery.message = job.message;
  delivery.recipient = job.recipients.front();
  delivery.mailbox = context_.settings->local.mailbox;
  delivery.hostname = context_.settings->own.hostname;
  delivery.directory = &directory_;
  delivery.book = context_.settings->local.book;
  delivery.users = context_.settings->local.users;
  delivery.custody = context_.queue.get();
  delivery.open_body = context_.open_body();
  delivery.performer = performer_.get();
  delivery.minimum_uid = context_.settings->local.minimum_uid;
  delivery.limits = context_.settings->local.limits;
  delivery.sealer = context_.settings->local.sealer;
  delivery.count_forward = context_.settings->local.count_forward;
  delivery.lifetime = context_.settings->lifetime;
  delivery.now = context_.clock.now();
  return delivery;
}

void LocalMail::on_ended(const Job& job, LocalResult result) {
  const auto index = job.recipients.front();
  for (const auto& problem : result.problems)
    maillog::address_problem(context_.log, *job.message, job.message->envelope.recipients[index],
                             problem);
  leases_.add_onward(job.lease, std::move(result.onward));
  JobEnd end;
  end.job.lease = job.lease;
  end.job.handed_over = job.handed_over;
  leases_.log_attempt(end, {index, result.outcome});
  leases_.settle(job.lease, index, std::move(result.outcome), result.again_within);
  leases_.close(job.lease);
  on_end_();
}

void LocalMail::reclaim(const LeaseBook::Wanted& wanted) {
  auto waiting =
      runner_->take_waiting([&](std::uint64_t lease) { return wanted.leases.contains(lease); });
  leases_.reclaim(waiting, wanted);
  for (auto& job : waiting)
    runner_->add(std::move(job));
}

void LocalMail::put_back(const Job& job) {
  leases_.put_back(job);
  leases_.close(job.lease);
  on_end_();
}

}  // namespace postrider::delivery
