// The inside of the dispatcher. Everything here runs on the first loop, except what says otherwise.
#pragma once

#include "base/net/batch_channel.h"
#include "base/net/blocking_pool.h"
#include "delivery/connection_shares.h"
#include "delivery/delivery_log.h"
#include "delivery/dispatcher.h"
#include "delivery/job/memory_budget.h"
#include "delivery/job/queue_port.h"
#include "delivery/local/agents/delivery_agent.h"
#include "delivery/local/local_delivery.h"
#include "delivery/local_runner.h"
#include "delivery/site.h"

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace postrider::delivery {

class Dispatcher::Core : public std::enable_shared_from_this<Dispatcher::Core> {
 public:
  static std::shared_ptr<Core> create(std::vector<Loop*> loops, std::unique_ptr<QueuePort> custody,
                                      ResolverOf resolver_of, const Clock& clock, Log& log,
                                      const mail::Directory& directory,
                                      std::shared_ptr<const DeliverySettings> settings);
  Core(std::vector<Loop*> loops, std::unique_ptr<QueuePort> custody, ResolverOf resolver_of,
       const Clock& clock, Log& log, const mail::Directory& directory,
       std::shared_ptr<const DeliverySettings> settings);
  ~Core();

  void restore(std::vector<queue::SiteState> sites);
  void use(TlsHooks hooks) { hooks_ = std::move(hooks); }
  void set_performer(std::shared_ptr<DeliveryAgent> performer) {
    performer_ = std::move(performer);
  }
  Loop& home() { return *loops_.front(); }
  void take(std::vector<queue::Lease> leases);
  void configure(std::shared_ptr<const DeliverySettings> settings);
  void drain(std::function<void()> on_done, Duration grace);
  Status status() const;
  void unblock(const std::string& domain_or_site);
  std::string reason_of(const std::string& address) const;
  void revoke(std::vector<queue::Revocation> wanted, queue::Consumer::UnderWay answer);
  void start_explain(std::string address, std::function<void(Explanation)> answer);

 private:
  // The way of a recipient, up to the point where DNS is needed.
  struct RouteDecision {
    enum class Kind : std::uint8_t { local, mx, fixed, error, discard };
    Kind kind = Kind::mx;
    std::string domain;
    const Route* route = nullptr;                    // in settings_; null: none matched
    mail::TlsWish tls = mail::TlsWish::unspecified;  // of the message
    std::string key;  // equal for recipients that can travel together
  };

  // Those asked about, whether mail for them ends on this machine.
  using LocalDomains = std::unordered_map<std::string, bool>;

  void open_postbags();

  // core.cc: leases in, records out
  void take_one(queue::Lease lease);
  void give_up(InHand& in_hand);
  void begin(std::uint64_t handle, InHand& in_hand);
  Task<void> find_domains(std::shared_ptr<Core> self, std::uint64_t handle,
                          std::vector<std::string> domains);
  void route(std::uint64_t handle, InHand& in_hand, const LocalDomains& local);
  void send_by(const RouteDecision& way, Job job);
  // again_within: where the schedule would wait longer.
  void settle(std::uint64_t lease, std::uint32_t index, mail::Outcome outcome,
              std::optional<Duration> again_within = {}, std::uint64_t site = 0);
  TimePoint next_attempt(InHand& in_hand, std::uint32_t attempts, std::uint64_t site,
                         std::optional<Duration> again_within);
  void settle_all(const Job& job, const mail::Outcome& outcome);
  void put_back(const Job& job);
  void close_if_done(std::uint64_t handle);
  Task<void> close_with_notice(std::shared_ptr<Core> self, std::unique_ptr<InHand> in_hand);
  Task<std::string> read_original(std::shared_ptr<const mail::Message> message);
  void record_soon(std::uint64_t handle, InHand& in_hand);
  void record_known();
  bool makes_slow_notice(const queue::Lease& lease, const queue::Record& record) const;
  Task<void> make_notices(const queue::Lease& lease, queue::Record& record);
  void record_part(std::uint64_t handle, InHand& in_hand);
  Task<void> record_part_with_notice(std::shared_ptr<Core> self, std::uint64_t handle,
                                     queue::Record part);
  void add_twin(InHand& in_hand, Job& job, std::uint32_t index) const;
  void finish(std::unique_ptr<InHand> in_hand, std::string_view original);
  void push(queue::Record record);
  void flush_records();
  void log_attempt(const InHand& in_hand, const JobEnd& end, const RecipientEnd& result);

  // core_sites.cc: sites; core_couriers.cc: their couriers
  Site& site_named(const std::string& name);
  void add_job(Site& site, Job job);
  void schedule(Site& site);
  SiteConnection* pick(Site& site);
  bool may_connect(const Site& site) const;
  void refuse_ready(Site& site, const mail::Outcome& why);
  void hand_over(Site& site, SiteConnection& link);
  void connect(Site& site);
  Task<void> look_up_and_connect(std::shared_ptr<Core> self, Site& site);
  void start_courier(Site& site);
  void on_event(CourierEvent event);
  void on_ready(Site& site, SiteConnection& link, const CourierEvent& event);
  void on_ended(Site& site, SiteConnection& link, CourierEvent event);
  void take_returned(Site& site, CourierEvent& event);
  void on_gone(Site& site, SiteConnection& link, CourierEvent event);
  void on_failure(Site& site, const mail::Outcome& why);
  void block(Site& site, const mail::Outcome& why);
  void open_again(Site& site);
  void put_back_all(Site& site, const mail::Outcome& why);
  void make_idle(Site& site, SiteConnection& link);
  void close_link(SiteConnection& link);
  void forget_unused();
  void take_back(std::deque<Job>& jobs,
                 const std::unordered_map<std::uint64_t, queue::Revocation*>& wanted);
  void open_local();
  LocalDelivery local_delivery(const Job& job) const;
  void on_local_end(const Job& job, LocalResult result);
  void hand_to_lmtp(const std::string& server, Job job);

  // core_shares.cc: who waits for a connection, and who gives way
  Standing standing_of(const Site& site) const;
  static Duration usual_time(const mail::Message& message);
  bool may_add(const Site& site) const;
  bool prove(Site& site);
  void forget_stranger(SiteConnection& link);
  void forget_unproven(SiteConnection& link);
  void add_idle(SiteConnection& link);
  void remove_idle(SiteConnection& link);
  void starve(Site& site);
  void look_at_starved();
  void relieve();
  void ask_the_silent();
  void forget_busy(SiteConnection& link);
  void charge(Site& site, const SiteConnection& link, const mail::Outcome& why);
  bool evict_idle();
  void feed_starved();
  void feed(std::deque<std::uint64_t>& line, bool from_both_ends);
  bool reserve_address(CourierOrder& order);
  void close_idle_at(const std::vector<HostAddress>& candidates);

  // core_resolve.cc: destinations and DNS
  RouteDecision find_way(const mail::Recipient& recipient, mail::TlsWish wish,
                         const LocalDomains& local) const;
  bool look_up_local(const mail::Recipient& recipient, LocalDomains& local,
                     bool stale = false) const;
  Task<LocalDomains> ask_tables(std::vector<std::string> domains);
  Task<RouteDecision> ask_way(std::string address);
  Destination& destination_of(const RouteDecision& way);
  void send_by_mx(const RouteDecision& way, Job job);
  Task<void> resolve(std::shared_ptr<Core> self, std::string key);
  void resolved(Destination& destination, const MailHosts& hosts);
  static TlsSources fixed_tls(const Route& route, mail::TlsWish wish);
  static std::string fixed_site_name(const Route& route, const TlsSources& tls);
  Site& fixed_site(const Route& route, mail::TlsWish wish);
  Task<std::vector<FoundHost>> look_up(std::vector<Host> hosts);
  Task<std::vector<FoundHost>> look_up_usable(std::vector<Host> hosts, std::uint16_t port,
                                              bool by_mx);
  void assign(const std::string& domain, const std::string& site);

  // core_tls.cc
  static TlsSources sources_of(const Route* route, const std::string& next_hop, bool by_mx,
                               mail::TlsWish wish);
  Task<StsFinding> find_sts(std::string domain);
  Task<void> demand_tls(std::vector<FoundHost>& hosts, const TlsSources& sources,
                        std::uint16_t port);
  Task<TlsaLookup> find_tlsa(const FoundHost& host, const TlsSources& sources, std::uint16_t port);
  std::optional<mail::Outcome> drop_refused(Site& site, std::vector<FoundHost>& hosts);
  void report_failure(const TlsSources& sources, const std::string& domain, const FoundHost* host,
                      TlsResult result, const std::string& detail);
  std::string domain_of_front(const Site& site) const;
  void give_back(Site& site, const Job& job);
  void log_parked(const Site& site, const Job& job) const;
  void on_login_trouble(Site& site, const CourierEvent& event);

  // core_status.cc
  struct Prospect {  // what an explanation would try
    std::string site;
    std::vector<Host> hosts;
    std::uint16_t port = 25;
    bool by_mx = false;
    TlsSources tls;
  };
  SiteStatus status_of(const Site& site) const;
  std::string reason_of(const Site& site) const;
  Duration waited(const std::deque<Job>& jobs) const;
  Task<bool> explain_way(const RouteDecision& way, Explanation& explanation, Prospect& prospect);
  Task<bool> explain_mx(const std::string& domain, Explanation& explanation, Prospect& prospect);
  Task<bool> explain_local(std::string& address, Explanation& explanation);
  Task<void> explain(std::shared_ptr<Core> self, std::string address,
                     std::function<void(Explanation)> answer);

  void check_drained();
  SteadyTime steady() const { return clock_.steady(); }

  std::vector<Loop*> loops_;
  std::unique_ptr<QueuePort> custody_;
  ResolverOf resolver_of_;
  const Clock& clock_;
  Log& log_;
  const mail::Directory& directory_;
  std::shared_ptr<const DeliverySettings> settings_;
  SystemRandom random_;
  std::shared_ptr<DeliveryAgent> performer_ = std::make_shared<OwnPerformer>();
  std::unique_ptr<BlockingPool> pool_;    // reads what notices quote and explanations need
  std::unique_ptr<BlockingPool> tables_;  // asks which domains are local
  std::shared_ptr<MemoryBudget> conversions_ = std::make_shared<MemoryBudget>(kMostConverting);
  std::shared_ptr<LocalRunner> local_;
  TlsHooks hooks_;
  std::vector<std::shared_ptr<TlsSessions>> sessions_;  // of each loop

  std::unordered_map<std::uint64_t, std::unique_ptr<InHand>> in_hand_;
  std::uint64_t next_handle_ = 0;
  std::unordered_map<std::string, std::unique_ptr<Site>> sites_;
  std::unordered_map<std::uint64_t, Site*> site_of_handle_;
  std::unordered_map<std::string, std::unique_ptr<Destination>> destinations_;
  std::unordered_set<std::int64_t> in_doubt_;  // messages lost behind their content, for a retry
  std::unordered_map<std::string, std::string> assigned_;  // domain to site, as the queue knows

  struct Handover {
    std::shared_ptr<Courier> courier;
    Job job;
  };
  std::vector<std::shared_ptr<BatchChannel<Handover>>> to_loops_;
  std::vector<std::shared_ptr<BatchChannel<CourierEvent>>> from_loops_;
  std::size_t next_loop_ = 0;
  std::size_t links_ = 0;
  struct Starved {  // sites that wait for a connection, by handle
    std::deque<std::uint64_t> prompt, newcomers, patient;
    std::deque<std::uint64_t> growing;  // have some already, or are kept by their addresses
    bool is_empty() const {
      return prompt.empty() && newcomers.empty() && patient.empty() && growing.empty();
    }
  } starved_;
  bool newest_next_ = true;
  std::size_t strangers_ = 0, patient_ = 0, giving_way_ = 0, closing_links_ = 0;  // links
  SteadyTime newcomer_turn_, prompt_turn_;  // when one that had none last began a connection
  std::list<SiteConnection*>
      unproven_;  // that have not finished a job, in the order of their beginning
  std::list<SiteConnection*> idle_;  // in the order in which they became so
  std::list<SiteConnection*> busy_;  // with a job, in the order of its handing over
  std::unordered_map<std::string, std::shared_ptr<AddressSlot>> address_slots_;
  std::unique_ptr<Deadline> look_;
  std::size_t forget_at_ = 0;  // destinations and sites; what was in use last time needs room

  std::vector<queue::Record> records_;
  bool flush_is_posted_ = false;
  std::vector<std::uint64_t> partly_known_;  // leases with results to record soon
  std::unique_ptr<Deadline> record_known_;
  std::size_t closing_ = 0;  // records whose notices are being made
  Status counters_;

  bool is_draining_ = false;
  std::function<void()> on_drained_;
  std::unique_ptr<Deadline> grace_;
};

}  // namespace postrider::delivery
