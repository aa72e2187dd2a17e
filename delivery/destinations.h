// Where mail for a domain or a route goes: from an MX answer to the site of its hosts.
#pragma once

#include "delivery/connections.h"
#include "delivery/router.h"
#include "delivery/site_book.h"
#include "delivery/tls_demands.h"

#include <memory>
#include <string>
#include <unordered_map>

namespace postrider::delivery {

class Destinations {
 public:
  Destinations(DispatchContext& context, LeaseBook& leases, SiteBook& sites, Router& router,
               TlsDemands& tls, Connections& connections);

  // To the site of its hosts, once they are known.
  void send_by_mx(const RouteDecision& way, Job job);
  // Requires: a way of the kind `fixed`.
  void send_to_host(const RouteDecision& way, Job job);
  void send_to_lmtp(const std::string& server, Job job);

  const Destination* find(const RouteDecision& way) const;
  // label: see RouteDecision.
  Site& fixed_site(const Route& route, mail::TlsWish wish, const std::string& label = {});
  static std::string fixed_site_name(const Route& route, mail::TlsWish wish,
                                     const std::string& label);

  // Known before the loops run: what waited behind a route that is gone is tried by the new one.
  void restore();
  // Mail that waits for the site of a way that is not its domain's any more waits for it no longer,
  // and so it stays if we stop.
  void on_reload();
  // What is known of a domain's or a site's hosts is asked for again, and blocked sites are tried.
  void unblock(const std::string& domain_or_site);
  void reclaim(const LeaseBook::Wanted& wanted);
  void each_waiting(const std::function<void(const Job&)>& visit) const;
  void drain();

 private:
  Destination& destination_of(const RouteDecision& way);
  const Route* route_of(const Destination& destination) const;
  Task<void> resolve(std::shared_ptr<void> alive, std::string key);
  Task<void> look_up(Destination& destination, MailHosts& hosts, Duration& ttl);
  void resolved(Destination& destination, const MailHosts& hosts);
  void assign(const std::string& domain, const std::string& site);
  std::string routing() const;
  void follow_routes();
  void leave_old_sites();
  void forget_unused();

  DispatchContext& context_;
  LeaseBook& leases_;
  SiteBook& sites_;
  Router& router_;
  TlsDemands& tls_;
  Connections& connections_;
  std::unordered_map<std::string, std::unique_ptr<Destination>> by_key_;
  std::unordered_map<std::string, std::string> assigned_;  // domain to site, as the queue knows
  std::string routing_;                                    // as follow_routes() last found it
  std::size_t forget_at_ = 0;  // destinations and sites; what was in use last time needs room
};

}  // namespace postrider::delivery
