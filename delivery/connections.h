// Connections to sites: which job goes over which, when a further one is made, and what becomes of
// a site by what its couriers report.
#pragma once

#include "base/net/batch_channel.h"
#include "base/net/blocking_pool.h"
#include "delivery/connection_line.h"
#include "delivery/job/memory_budget.h"
#include "delivery/other_hosts.h"
#include "delivery/refusals.h"
#include "delivery/router.h"
#include "delivery/site_book.h"
#include "delivery/tls_demands.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace postrider::delivery {

class Connections {
 public:
  struct Counts {
    std::uint64_t opened = 0, failed = 0, messages_on_reused = 0;
  };

  // on_gone: called when a connection has ended.
  Connections(DispatchContext& context, std::vector<Loop*> loops, LeaseBook& leases,
              SiteBook& sites, Router& router, TlsDemands& tls, BlockingPool& pool,
              std::function<void()> on_gone);
  // Requires: the context's owner is known.
  void open_channels();

  void send(Site& site, Job job);
  // The message was lost behind its content before; asked once.
  bool take_doubt(mail::MessageId id);
  void close_all();  // what is open ends politely
  void abort_all();
  std::size_t size() const { return line_.size(); }
  const Counts& counts() const { return counts_; }

 private:
  struct Handover {
    std::shared_ptr<Courier> courier;
    Job job;
  };
  void schedule(Site& site);
  SiteConnection* pick(Site& site) const;
  unsigned most_connections(const Site& site) const;
  bool may_connect(const Site& site) const;
  void wake_later(Site& site);
  void look_at_silent(Site& site);
  void stand_back(Site& site);
  void bring_back(Site& site);
  void put_off(const Site& site, const Job& job);
  void hand_over(Site& site, SiteConnection& link);
  void connect(Site& site);
  Task<void> look_up_and_connect(std::shared_ptr<void> alive, Site& site);
  std::vector<HostAddress> candidates(const Site& site);
  void start_courier(Site& site);
  std::unique_ptr<SiteConnection> begin(Site& site, CourierOrder order, std::size_t loop);
  std::unique_ptr<SiteConnection> begin_for_refused(Site& site, std::vector<HostAddress> hosts);
  void give(SiteConnection& link, Job job);
  CourierOrder order_for(const Site& site, std::size_t loop) const;

  void on_event(CourierEvent event);
  void on_ready(Site& site, SiteConnection& link, const CourierEvent& event);
  void on_ended(Site& site, SiteConnection& link, CourierEvent event);
  void take_returned(Site& site, CourierEvent& event);
  void on_gone(Site& site, SiteConnection& link, CourierEvent event);
  void on_failure(Site& site, const mail::Outcome& why);
  void on_own_fault(Site& site, const mail::Outcome& why, Duration pause);
  void note_success(Site& site, const CourierEvent& event);
  void note_verdict(Site& site);
  struct Stop {  // the site wants no mail for a while
    Duration wait{0};
    mail::Outcome why;
  };
  bool is_of_site(Site& site, const WeightiestRefusal& refusal, const JobEnd& end);
  std::optional<Stop> weigh_refusal(Site& site, const JobEnd& end);
  void on_hang(Site& site, const SiteConnection& link, const mail::Outcome& why);
  void on_login_trouble(Site& site, const CourierEvent& event);
  void note_doubt(const JobEnd& end);
  void make_idle(SiteConnection& link);

  DispatchContext& context_;
  LeaseBook& leases_;
  SiteBook& sites_;
  Router& router_;
  TlsDemands& tls_;
  BlockingPool& pool_;
  std::function<void()> on_gone_;
  ConnectionLine line_;
  OtherHosts others_;
  std::vector<Loop*> loops_;
  std::size_t next_loop_ = 0;
  std::vector<std::shared_ptr<TlsSessions>> sessions_;  // of each loop
  std::vector<std::shared_ptr<BatchChannel<Handover>>> to_loops_;
  std::vector<std::shared_ptr<BatchChannel<CourierEvent>>> from_loops_;
  std::shared_ptr<MemoryBudget> conversions_ = std::make_shared<MemoryBudget>(kMostConverting);
  std::unordered_set<std::int64_t> in_doubt_;  // messages lost behind their content, for a retry
  Counts counts_;
};

}  // namespace postrider::delivery
