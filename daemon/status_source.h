// What only the running parts know, for `postrider explain` and `postrider status`.
#pragma once

#include "daemon/addresses.h"
#include "daemon/certificates.h"
#include "daemon/control/control_service.h"
#include "daemon/dmarc_parts.h"
#include "daemon/event_sinks.h"
#include "daemon/log/background_log.h"
#include "daemon/mail_trace.h"
#include "daemon/pickup/local_limits.h"
#include "daemon/privsep/confinement.h"
#include "daemon/reload_desk.h"
#include "daemon/tls_parts.h"
#include "delivery/dispatcher.h"
#include "dns/stub_resolver.h"
#include "smtpd/auth/auth_service.h"
#include "smtpd/filter/authentication.h"
#include "smtpd/filter/client_checks.h"
#include "smtpd/filter/milter_filter.h"
#include "smtpd/smtp_server.h"
#include "tables/watcher.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

// Asked on threads of the pool for blocking work; posts to the loops and waits for the answer, but
// not for ever: a loop that is stopping does not answer.
class RunningStatus : public StatusSource {
 public:
  // Those that are asked; all outlive this.
  struct Asked {
    queue::Queue& queue;
    delivery::Dispatcher& dispatcher;
    smtpd::Server& server;
    TlsParts& tls;
    DmarcParts& dmarc;
    const smtpd::auth::AuthService& auth;
    const LocalLimits& local_limits;
    const smtpd::filter::AuthenticationCounters& checks;
    const smtpd::filter::milter::MilterPeers& milters;
    const smtpd::filter::ClientCheckState& client_checks;
    EventSinks& sinks;
    const BackgroundLog& log;
    const MailTrace& trace;
    const tables::Watcher& watcher;
    std::vector<const dns::StubResolver*> resolvers;
    ReloadDesk& reloads;
    std::string hostname;
    std::string config_file;
  };
  explicit RunningStatus(Asked asked);
  std::vector<boost::json::object> sites() override;
  std::vector<ExplainedFact> explain(const std::string& address, bool is_queued) override;
  std::vector<std::string> reasons(const std::vector<std::string>& addresses) override;
  InHand in_hand(mail::MessageId id, std::uint32_t recipient, const std::string& to) override;
  boost::json::object status() override;
  std::vector<ExplainedFact> reports(ReportKind kind, bool send, bool today_too) override;
  void retried(const queue::Filter& filter) override;
  std::uint64_t ask_for_reload() override;
  std::optional<ReloadVerdict> reload_verdict(std::uint64_t number) override;
  bool keeps_trace() override { return asked_.trace.is_on(); }
  void settle_trace() override { asked_.trace.settle(); }
  void suspect_trace() override { asked_.trace.suspect_damage(); }
  Result<EventPage> events(const std::string& after, std::uint64_t last) override;
  Result<void> replay_events(const std::string& sink, const std::string& id) override;
  void set_confinement(Confinement confinement);  // before it is asked
  void note_pam_ended(const std::string& how, TimePoint when);
  void set_listeners(std::vector<std::string> addresses);
  void set_tables(ReceivingTables tables);
  void set_certificates(std::vector<std::shared_ptr<const TlsIdentity>> identities);
  void stop();  // who waits gets no answer

 private:
  void add_events(boost::json::object& out, boost::json::array& alarms) const;
  void add_certificates(boost::json::array& alarms) const;
  void add_dns(boost::json::object& out) const;
  void add_trace(boost::json::object& out) const;
  void look_at_deferred(delivery::SiteStatus& site);
  void add_deferring(delivery::Status& sending, boost::json::object& out,
                     boost::json::array& alarms);
  std::string explain_receiving(const std::string& address, std::vector<ExplainedFact>& facts);

  const Asked asked_;
  std::atomic<bool> stopping_{false};
  Confinement confinement_;
  mutable std::mutex mutex_;
  std::vector<std::string> listeners_;
  unsigned pam_ends_ = 0;
  std::string pam_end_;
  ReceivingTables tables_;
  std::vector<std::shared_ptr<const TlsIdentity>> certificates_;
};

}  // namespace postrider::daemon
