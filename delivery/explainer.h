// What the administrator asks: how the sites are, what would happen to mail for an address, and
// what mail that is in hand waits for.
#pragma once

#include "base/net/blocking_pool.h"
#include "delivery/destinations.h"
#include "delivery/dispatcher.h"
#include "delivery/local_mail.h"

#include <deque>
#include <functional>
#include <string>
#include <vector>

namespace postrider::delivery {

class Explainer {
 public:
  Explainer(DispatchContext& context, const LeaseBook& leases, const SiteBook& sites,
            Router& router, TlsDemands& tls, Destinations& destinations, const LocalMail& local,
            BlockingPool& pool);

  // From here on the answer says what mail waits for that is being tried.
  static constexpr Duration kUnusual = std::chrono::seconds(5);

  // Adds the sites, and those among them that are in trouble.
  void add_sites(Status& status) const;
  std::vector<SiteStatus> all_sites() const;  // by name
  // For each address, or host to which mail was rerouted ("smtp://host:25"): what mail waits for that
  // is in hand, before anything has failed; empty: it goes as usual, or has not taken as long as `least`.
  std::vector<std::string> reasons_of(const std::vector<std::string>& addresses,
                                      Duration least = kUnusual) const;
  void start(std::string address, std::function<void(Explanation)> answer);

 private:
  struct Prospect {  // what an explanation would try
    std::string site;
    std::vector<Host> hosts;
    std::uint16_t port = 25;
    bool by_mx = false;
    TlsSources tls;
  };
  static std::uint32_t count_idle(const Site& site);
  SiteStatus status_of(const Site& site) const;
  const Site* site_of(const std::string& address, Duration least, std::string& reason) const;
  std::string reason_of(const Site& site, Duration least = kUnusual) const;
  Duration waited(const std::deque<Job>& jobs) const;
  Duration in_hand_for(const Job& job) const;
  Task<void> explain(std::shared_ptr<void> alive, std::string address,
                     std::function<void(Explanation)> answer);
  Task<bool> explain_way(const RouteDecision& way, Explanation& explanation, Prospect& prospect);
  Task<bool> explain_mx(const RouteDecision& way, Explanation& explanation, Prospect& prospect);
  Task<bool> explain_local(std::string& address, Explanation& explanation);
  Task<void> complete(std::string& address);
  Task<void> explain_hosts(const Prospect& prospect, Explanation& explanation);

  DispatchContext& context_;
  const LeaseBook& leases_;
  const SiteBook& sites_;
  Router& router_;
  TlsDemands& tls_;
  Destinations& destinations_;
  const LocalMail& local_;
  BlockingPool& pool_;
};

}  // namespace postrider::delivery
