// Mail that ends on this machine: what the runner of local deliveries is given, and what it
// reports.
#pragma once

#include "delivery/dispatch_context.h"
#include "delivery/lease_book.h"
#include "delivery/local/agents/delivery_agent.h"
#include "delivery/local_runner.h"
#include "mail/directory.h"

#include <functional>
#include <memory>
#include <string>

namespace postrider::delivery {

class LocalMail {
 public:
  using ToLmtp = std::function<void(const std::string& server, Job job)>;

  // on_end: called when a recipient has ended.
  LocalMail(DispatchContext& context, LeaseBook& leases, const mail::Directory& directory,
            ToLmtp to_lmtp, std::function<void()> on_end);

  // Before the loops run.
  void set_performer(std::shared_ptr<DeliveryAgent> performer) {
    performer_ = std::move(performer);
  }
  const std::shared_ptr<DeliveryAgent>& performer() const { return performer_; }
  void deliver(Job job) { runner_->add(std::move(job)); }
  // What has not begun of these goes back to the queue.
  void reclaim(const LeaseBook::Wanted& wanted);
  void each_waiting(const std::function<void(const Job&)>& visit) const {
    runner_->each_waiting(visit);
  }
  void drain() { runner_->drain(); }
  void stop() { performer_->stop(); }  // what runs

 private:
  LocalDelivery prepare(const Job& job) const;
  void on_ended(const Job& job, LocalResult result);
  void put_back(const Job& job);

  DispatchContext& context_;
  LeaseBook& leases_;
  const mail::Directory& directory_;
  std::function<void()> on_end_;
  std::shared_ptr<DeliveryAgent> performer_ = std::make_shared<OwnPerformer>();
  // Ends before us, and what it posts is dropped once it is gone.
  std::shared_ptr<LocalRunner> runner_;
};

}  // namespace postrider::delivery
