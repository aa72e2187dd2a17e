// The couriers on all loops: how one is started, how jobs reach it, and how what it reports comes
// back.
#pragma once

#include "base/net/batch_channel.h"
#include "base/net/blocking_pool.h"
#include "delivery/dispatch_context.h"
#include "delivery/job/memory_budget.h"
#include "delivery/site.h"
#include "delivery/tls_demands.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::delivery {

// The recipient domain of the work that is next: a site may serve many.
std::string domain_of_front(const Site& site);

// On the dispatcher's loop.
class Couriers {
 public:
  struct Order {
    CourierOrder order;
    std::size_t loop = 0;  // that it will run on
  };

  Couriers(DispatchContext& context, std::vector<Loop*> loops, TlsDemands& tls, BlockingPool& pool)
      : context_(context), loops_(std::move(loops)), tls_(tls), pool_(pool) {}
  // on_event: called on the dispatcher's loop. Requires: the context's owner is known.
  void open_channels(std::function<void(CourierEvent)> on_event);

  // For the site, without candidates: the loops take turns.
  Order order_for(Site& site);  // chooses the address to connect from
  std::unique_ptr<SiteConnection> prepare(Site& site, Order order);
  void start(SiteConnection& link);
  void give(const SiteConnection& link, Job job);
  static void abort(const SiteConnection& link);

 private:
  struct Handover {
    std::shared_ptr<Courier> courier;
    Job job;
  };

  DispatchContext& context_;
  std::vector<Loop*> loops_;
  TlsDemands& tls_;
  BlockingPool& pool_;
  std::size_t next_loop_ = 0;
  std::vector<std::shared_ptr<TlsSessions>> sessions_;  // of each loop
  std::vector<std::shared_ptr<BatchChannel<Handover>>> to_loops_;
  std::vector<std::shared_ptr<BatchChannel<CourierEvent>>> from_loops_;
  std::shared_ptr<MemoryBudget> conversions_ = std::make_shared<MemoryBudget>(kMostConverting);
};

}  // namespace postrider::delivery
