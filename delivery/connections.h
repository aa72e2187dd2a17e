// Connections to sites: which job goes over which, when a further one is made, and what becomes of
// a site by what its couriers report.
#pragma once

#include "base/net/blocking_pool.h"
#include "delivery/connection_line.h"
#include "delivery/couriers.h"
#include "delivery/doubtful_jobs.h"
#include "delivery/other_hosts.h"
#include "delivery/router.h"
#include "delivery/site_book.h"
#include "delivery/tls_demands.h"

#include <functional>
#include <memory>
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
  bool take_doubt(mail::MessageId id) { return doubts_.take(id); }
  void close_all();  // what is open ends politely
  void abort_all();
  std::size_t size() const { return line_.size(); }
  const Counts& counts() const { return counts_; }

 private:
  void schedule(Site& site);
  bool may_connect(const Site& site) const;
  void wake_later(Site& site);
  void look_at_silent(Site& site);
  void connect(Site& site);
  Task<void> look_up_and_connect(std::shared_ptr<void> alive, Site& site);
  Task<Found> look_up(Site& site);
  std::vector<HostAddress> candidates(const Site& site);
  void start_courier(Site& site);
  std::unique_ptr<SiteConnection> begin(Site& site, Couriers::Order order);
  std::unique_ptr<SiteConnection> begin_for_refused(Site& site, std::vector<HostAddress> hosts);
  void give(SiteConnection& link, Job job);

  void on_event(CourierEvent event);
  void on_waits_aside(Site& site, SiteConnection& link, const CourierEvent& event);
  void on_ready(Site& site, SiteConnection& link, const CourierEvent& event);
  void on_ended(Site& site, SiteConnection& link, CourierEvent event);
  void take_returned(Site& site, CourierEvent& event);
  void on_gone(Site& site, SiteConnection& link, CourierEvent event);
  void on_failure(Site& site, const mail::Outcome& why);
  void on_own_fault(Site& site, const mail::Outcome& why, Duration pause);
  void on_hang(Site& site, const SiteConnection& link, const mail::Outcome& why);
  void on_login_trouble(Site& site, const CourierEvent& event);
  void make_idle(SiteConnection& link);

  DispatchContext& context_;
  LeaseBook& leases_;
  SiteBook& sites_;
  Router& router_;
  TlsDemands& tls_;
  std::function<void()> on_gone_;
  ConnectionLine line_;
  Couriers couriers_;
  DoubtfulJobs doubts_;
  OtherHosts others_;
  Counts counts_;
};

}  // namespace postrider::delivery
