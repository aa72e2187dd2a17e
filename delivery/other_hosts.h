// Mail that one host of a site has refused for now: another host is asked at once, in the same
// attempt (RFC 5321 §5.1). It goes over connections of its own, which stay open for the next that is
// refused; one message sees two hosts at most. Who it is that refuses counts once: the site's health
// and pace hear of the first refusal alone.
#pragma once

#include "delivery/connection_line.h"
#include "delivery/dispatch_context.h"
#include "delivery/lease_book.h"
#include "delivery/site_book.h"

#include <functional>
#include <memory>
#include <vector>

namespace postrider::delivery {

class OtherHosts {
 public:
  struct Host {
    // Those of the site, in the order in which they are to be tried.
    std::function<std::vector<HostAddress>(const Site&)> candidates;
    // A connection to one of them, begun; null: there is no room for one.
    std::function<std::unique_ptr<SiteConnection>(Site&, std::vector<HostAddress>)> begin;
    std::function<void(SiteConnection&, Job)> hand_over;
  };
  OtherHosts(DispatchContext& context, LeaseBook& leases, SiteBook& sites, ConnectionLine& line,
             Host host)
      : context_(context), leases_(leases), sites_(sites), line_(line), host_(std::move(host)) {}

  // Takes from the results of a job, which ended on `link`, those of recipients that another host
  // may take. The rest is the caller's.
  void take(Site& site, const SiteConnection& link, JobEnd& end);
  // Whatever can be done now for what was taken.
  void schedule(Site& site);
  // The courier's event is of a connection of ours, which it was given to.
  bool on_event(Site& site, CourierEvent& event);

  // Jobs of ours that crossed the end of their connection.
  void take_back(Site& site, std::vector<Job>& returned);

  // Says of each result what is to be recorded, by what was said before.
  static void weigh_words(JobEnd& end);

 private:
  void on_ready(SiteConnection& link, const CourierEvent& event);
  void on_ended(Site& site, SiteConnection& link, CourierEvent& event);
  void on_gone(Site& site, SiteConnection& link, CourierEvent& event);
  std::vector<HostAddress> others(const Site& site, const std::string& address) const;
  SiteConnection* pick(Site& site, const Job& job) const;
  bool begin_for(Site& site, const Job& job);
  void give_up(const Site& site, const Job& job);
  void give_up_late(Site& site);
  void look_soon(Site& site);
  void make_idle(SiteConnection& link);

  DispatchContext& context_;
  LeaseBook& leases_;
  SiteBook& sites_;
  ConnectionLine& line_;
  Host host_;
};

}  // namespace postrider::delivery
