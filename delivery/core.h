// The inside of the dispatcher, composed of those that own its state. All of it runs on the first
// loop.
//
//   take() --> LeaseBook.open --> Router.decide --> Destinations --> Connections --> couriers
//                    ^                         `--> LocalMail            |
//                    `------------- settle | put_back, close -----------'
#pragma once

#include "delivery/destinations.h"
#include "delivery/dispatcher.h"
#include "delivery/explainer.h"
#include "delivery/local_mail.h"

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

class Dispatcher::Core : public std::enable_shared_from_this<Dispatcher::Core> {
 public:
  static std::shared_ptr<Core> create(std::vector<Loop*> loops, std::unique_ptr<QueuePort> queue,
                                      ResolverOf resolver_of, const Clock& clock, Log& log,
                                      const mail::Directory& directory,
                                      std::shared_ptr<const DeliverySettings> settings);
  Core(std::vector<Loop*> loops, std::unique_ptr<QueuePort> queue, ResolverOf resolver_of,
       const Clock& clock, Log& log, const mail::Directory& directory,
       std::shared_ptr<const DeliverySettings> settings);

  Loop& home() { return context_.home; }
  void restore(const std::vector<queue::SiteState>& sites) {
    sites_.restore(sites);
    destinations_.restore();
  }
  void use(TlsHooks hooks) { tls_.use(std::move(hooks)); }
  void set_performer(std::shared_ptr<DeliveryAgent> performer) {
    local_.set_performer(std::move(performer));
  }
  void set_double_bounces(std::shared_ptr<DoubleBounces> shared) {
    context_.double_bounces = std::move(shared);
  }
  void configure(std::shared_ptr<const DeliverySettings> settings);

  void take(std::vector<queue::Lease> leases);
  // What no courier has in hand goes back to the queue, which knows what was wanted.
  void revoke(std::vector<queue::Revocation> wanted, queue::Consumer::UnderWay answer);
  // Which of these are under way.
  void ask(std::vector<queue::Revocation> wanted, const queue::Consumer::UnderWay& answer);
  // Of what waits, what is over ends; the queue asks again for what is under way.
  void expire(std::vector<queue::Overdue> late);
  void drain(std::function<void()> on_done, Duration grace);

  void unblock(const std::string& domain_or_site) { destinations_.unblock(domain_or_site); }
  Status status() const;
  std::vector<SiteStatus> sites() const { return explainer_.all_sites(); }
  std::vector<std::string> reasons_of(const std::vector<std::string>& addresses,
                                      Duration least) const {
    return explainer_.reasons_of(addresses, least);
  }
  void explain(std::string address, std::function<void(Explanation)> answer) {
    explainer_.start(std::move(address), std::move(answer));
  }

 private:
  void add_waits(const mail::Message& message, std::vector<queue::Lease::Recipient>& recipients,
                 Duration least) const;
  void reclaim(const LeaseBook::Wanted& wanted);
  void take_one(queue::Lease lease);
  void begin(std::uint64_t handle);
  Task<void> ask_tables(std::shared_ptr<Core> self, std::uint64_t handle,
                        std::vector<std::string> addresses);
  void route(std::uint64_t handle, const Router::Known& known, const Job* left = nullptr);
  void send_by(const RouteDecision& way, Job job);
  void reclaim_unrouted(const LeaseBook::Wanted& wanted);
  void check_drained();
  void remember_soon();
  Task<void> remember(std::shared_ptr<Core> self, std::string file, std::string text);
  void note_memory(const Result<void>& written);

  DispatchContext context_;
  BlockingPool pool_;  // reads what notices quote
  LeaseBook leases_;
  SiteBook sites_;
  Router router_;
  TlsDemands tls_;
  Connections connections_;
  Destinations destinations_;
  LocalMail local_;
  BlockingPool explaining_;  // follows aliases into homes
  Explainer explainer_;
  std::function<void()> on_drained_;
  std::unique_ptr<Deadline> grace_;
  std::unique_ptr<Deadline> remember_;
  bool is_remembering_ = false;
  std::unordered_map<std::uint64_t, Job> unrouted_;  // by lease, while the tables are asked
};

}  // namespace postrider::delivery
