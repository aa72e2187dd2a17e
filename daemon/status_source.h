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
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

// Asked on threads of the pool for blocking work; posts to the loops and waits for the answer, but
// not for ever: a loop that is stopping does not answer.
class RunningStatus : public StatusSource {
 public:
  // All references outlive this.
  RunningStatus(delivery::Dispatcher& dispatcher, smtpd::Server& server, TlsParts& tls,
                DmarcParts& dmarc, const smtpd::auth::AuthService& auth,
                const LocalLimits& local_limits,
                const smtpd::filter::AuthenticationCounters& checks,
                const smtpd::filter::milter::MilterPeers& milters,
                const smtpd::filter::ClientCheckState& client_checks, std::string hostname,
                std::string config_file);
  std::vector<boost::json::object> sites() override;
  std::vector<ExplainedFact> explain(const std::string& address, bool is_queued) override;
  std::vector<std::string> reasons(const std::vector<std::string>& addresses) override;
  boost::json::object status() override;
  std::vector<ExplainedFact> reports(ReportKind kind, bool send, bool today_too) override;
  void retried(const queue::Filter& filter) override;
  std::uint64_t ask_for_reload() override;
  std::optional<ReloadVerdict> reload_verdict(std::uint64_t number) override;
  void set_sinks(EventSinks* sinks) { sinks_ = sinks; }       // before it is asked
  void set_log(const BackgroundLog* log) { log_ = log; }      // before it is asked
  void set_trace(const MailTrace* trace) { trace_ = trace; }  // before it is asked
  bool keeps_trace() override { return trace_ != nullptr && trace_->is_on(); }
  void settle_trace() override { trace_->settle(); }
  void suspect_trace() override { trace_->suspect_damage(); }
  Result<EventPage> events(const std::string& after, std::uint64_t last) override;
  Result<void> replay_events(const std::string& sink, const std::string& id) override;
  void set_confinement(Confinement confinement);  // before it is asked
  void note_pam_ended(const std::string& how, TimePoint when);
  void set_listeners(std::vector<std::string> addresses);
  void set_tables(ReceivingTables tables);
  void set_certificates(std::vector<std::shared_ptr<const TlsIdentity>> identities);
  // Before it is asked; they outlive this.
  void set_resolvers(std::vector<const dns::StubResolver*> resolvers) {
    resolvers_ = std::move(resolvers);
  }
  void set_watcher(const tables::Watcher* watcher) { watcher_ = watcher; }  // before it is asked
  // How to wake who reloads; before it is asked.
  void set_waker(std::function<void()> wake_for_reload);
  std::uint64_t reloads_asked_for() const;
  // On all that were asked for up to this number. Its first problem is an alarm until the next.
  void set_verdict(std::uint64_t number, ReloadVerdict verdict);
  void stop();  // who waits gets no answer

 private:
  void add_events(boost::json::object& out, boost::json::array& alarms) const;
  void add_certificates(boost::json::array& alarms) const;
  void add_dns(boost::json::object& out) const;
  void add_trace(boost::json::object& out) const;
  std::string explain_receiving(const std::string& address, std::vector<ExplainedFact>& facts);

  delivery::Dispatcher& dispatcher_;
  smtpd::Server& server_;
  TlsParts& tls_;
  DmarcParts& dmarc_;
  const smtpd::auth::AuthService& auth_;
  const LocalLimits& local_limits_;
  const smtpd::filter::AuthenticationCounters& checks_;
  const smtpd::filter::milter::MilterPeers& milters_;
  const smtpd::filter::ClientCheckState& client_checks_;
  const std::string hostname_;
  const std::string config_file_;
  EventSinks* sinks_ = nullptr;
  const BackgroundLog* log_ = nullptr;
  const MailTrace* trace_ = nullptr;
  const tables::Watcher* watcher_ = nullptr;
  std::vector<const dns::StubResolver*> resolvers_;
  std::atomic<bool> stopping_{false};
  Confinement confinement_;
  mutable std::mutex mutex_;
  std::vector<std::string> listeners_;
  std::function<void()> wake_for_reload_;
  std::condition_variable judged_;
  std::uint64_t asked_ = 0;  // reloads
  std::uint64_t judged_up_to_ = 0;
  ReloadVerdict verdict_;  // the last
  unsigned pam_ends_ = 0;
  std::string pam_end_;
  ReceivingTables tables_;
  std::vector<std::shared_ptr<const TlsIdentity>> certificates_;
};

}  // namespace postrider::daemon
