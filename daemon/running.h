// The composition: every part of the daemon, made in the order of their dependencies and unmade in
// the reverse. This is the only place that knows all folders.
//
//   prepare():  account, folders -> Landlock -> log, queue (as the user) -> sockets (as root)
//               -> user for good -> doors for the tools -> seccomp
//   serve():    threads, READY, then signals:
//               SIGHUP   once the file has stayed as it is for a second: a new Config, or every
//                        problem of it in the log and the old one stays
//               SIGTERM  receiving drains -> delivery drains -> the queue stops -> threads end;
//                        a second one gives up the rest of the patience; ten seconds in all
#pragma once

#include "base/net/blocking_pool.h"
#include "base/net/loop.h"
#include "base/random.h"
#include "daemon/addresses.h"
#include "daemon/config/config_file.h"
#include "daemon/control/control_server.h"
#include "daemon/control/control_service.h"
#include "daemon/control/kept_log.h"
#include "daemon/dmarc_parts.h"
#include "daemon/event_sinks.h"
#include "daemon/heap.h"
#include "daemon/inherited.h"
#include "daemon/log/background_log.h"
#include "daemon/log/events.h"
#include "daemon/mail_trace.h"
#include "daemon/notice_digest.h"
#include "daemon/notify.h"
#include "daemon/outbound.h"
#include "daemon/pickup/drop_folder.h"
#include "daemon/pickup/submit_server.h"
#include "daemon/privsep/confinement.h"
#include "daemon/privsep/parent_client.h"
#include "daemon/privsep/privileges.h"
#include "daemon/protocol/effective.h"
#include "daemon/route_changes.h"
#include "daemon/settings.h"
#include "daemon/status_source.h"
#include "daemon/tls_parts.h"
#include "delivery/dispatcher.h"
#include "delivery/local/local_directory.h"
#include "dns/stub_resolver.h"
#include "mailauth/signer.h"
#include "queue/queue.h"
#include "smtpd/auth/auth_service.h"
#include "smtpd/auth/pam_helper.h"
#include "smtpd/filter/authentication.h"
#include "smtpd/filter/header_checks.h"
#include "smtpd/message_store.h"
#include "smtpd/smtp_server.h"
#include "tables/watcher.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace postrider::daemon {

struct StartProblems {
  std::vector<std::string> lines;
  int exit_code = 0;
};

class Running {
 public:
  Running(Loaded loaded, std::vector<InheritedSocket> sockets, Events& events, Notifier& notifier,
          std::shared_ptr<ParentClient> parent);
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  StartProblems prepare();  // once; with problems there is nothing to serve
  int serve();              // the exit code

 private:
  // A loop with what belongs to its thread.
  struct Lane {
    explicit Lane(unsigned number) : loop(number) {}
    Loop loop;
    SystemRandom random;
    std::unique_ptr<dns::StubResolver> resolver;
    std::atomic<bool> answered{true};  // the last question whether it is alive
    std::thread thread;
  };

  // prepare()
  void find_user(StartProblems& problems);
  void provide_folders(StartProblems& problems);
  void open_log(StartProblems& problems);
  void open_queue(StartProblems& problems);
  void open_addresses(StartProblems& problems);
  void look_at_credentials(StartProblems& problems) const;
  void read_signing_keys(StartProblems& problems);  // running_signing.cc
  void restrict_own_files();
  void restrict_own_calls(StartProblems& problems);
  void make_lanes();
  void read_certificates(StartProblems& problems);  // running_tls.cc
  void make_parts(StartProblems& problems);
  void make_event_sinks(StartProblems& problems);
  Result<std::vector<asio::ip::address>> resolve_for_sinks(const std::string& host,
                                                           const std::atomic<bool>& is_over);
  void open_doors(StartProblems& problems);
  void find_pam_helper(StartProblems& problems);
  void look_at_pam_helper();
  void open_auth(StartProblems& problems);
  void blame(StartProblems& problems, const char* key, const std::string& text) const;

  // serve()
  void start_threads();
  void tell_confinement();
  bool parent_is_gone();
  void run_lane(Lane& lane);
  void keep_alive();
  bool lanes_are_alive();
  void ask_for_reload();
  void reload_if_settled();
  ReloadVerdict reload(Loaded fresh);
  ReloadVerdict refuse(const Loaded& fresh);
  ReloadVerdict adopt(Loaded fresh);
  void tell_reload(std::uint64_t number, ReloadVerdict verdict);
  Error configure_parts(const Config& config, const Origins& origins);
  Error change_certificates(const Config& config, const Origins& origins);  // running_tls.cc
  void look_at_certificates();
  void log_certificates();
  void log_out_of_time();
  Result<std::shared_ptr<const mailauth::Signer>> changed_signing_keys(
      const Config& config, const Origins& origins);  // running_signing.cc
  void adopt_signing_keys(std::shared_ptr<const mailauth::Signer> signer, std::string stamp);
  void look_at_signing_keys();
  void look_at_routes();
  std::vector<std::shared_ptr<const smtpd::filter::Source>> filters(const Config& config);
  std::function<void(const IpAddress&)> failure_counter(const Config& config);
  CheckParts check_parts();
  void read_greylist();
  void keep_greylist();
  SubmitSettings local_settings(const Config& config);
  std::optional<gid_t> known_readers(const Config& config);
  void publish_places();
  int stop();
  bool wait_for_stage(Duration limit);
  struct Remains {
    std::optional<std::uint64_t> queued, dropped;
    std::uint64_t under_way = 0;
  };
  Remains what_remains() const;
  void tell_stopped(bool complete, std::size_t unrecorded, const Remains& remains);
  void limit_stop();
  bool end_lanes();
  [[noreturn]] void leave_at_once();
  std::string summary() const;

  Loaded loaded_;
  ConfigPtr started_;  // with whose values runs what a reload cannot change
  std::vector<InheritedSocket> sockets_;
  Events& events_;
  Notifier& notifier_;
  std::shared_ptr<ParentClient> parent_;
  SandboxPaths reach_;
  Confinement confinement_;
  SystemClock clock_;
  std::optional<Account> account_;  // whom to become
  SteadyTime next_beat_;
  HeapKeeper heap_;
  SteadyTime next_tls_look_;
  std::string tls_stamp_;    // of the files that were read last
  std::string out_of_time_;  // fingerprints of those that the log was told of
  smtpd::TlsOffer tls_offer_;
  const std::shared_ptr<mailauth::LiveSigner> signer_ = std::make_shared<mailauth::LiveSigner>();
  SteadyTime next_keys_look_;
  RouteChanges route_changes_;
  std::string keys_stamp_;   // of the files that were read last
  std::string fewer_stamp_;  // of files among which a domain's keys are missing

  std::unique_ptr<BackgroundLog> log_;
  std::optional<events::EventLog> told_;  // before log_, for all that is an event too
  std::optional<MailTrace> trace_;
  std::unique_ptr<queue::Queue> queue_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::optional<tables::Watcher> tables_;
  std::shared_ptr<const delivery::LocalAddresses> book_;
  ReceivingTables receiving_tables_;
  std::shared_ptr<delivery::LocalDirectory> directory_;
  std::optional<smtpd::QueueCustody> custody_;
  smtpd::filter::AuthenticationCounters checks_;
  smtpd::filter::milter::MilterPeers milters_;
  smtpd::filter::ClientCheckState client_checks_;
  smtpd::filter::HeaderCheckCounters header_checks_;
  SteadyTime next_greylist_;  // when it is written
  std::shared_ptr<smtpd::auth::PamHelper> pam_;
  std::shared_ptr<smtpd::auth::AuthService> auth_;
  std::unique_ptr<smtpd::Server> server_;
  std::optional<Outbound> outbound_;
  std::unique_ptr<delivery::Dispatcher> dispatcher_;
  std::optional<LocalLimits> local_limits_;
  std::optional<BlockingPool> tls_workers_;  // for handshakes
  std::optional<BlockingPool> signers_;      // for signatures
  std::optional<BlockingPool> pool_;
  std::unique_ptr<TlsParts> tls_parts_;
  std::unique_ptr<DmarcParts> dmarc_parts_;
  std::shared_ptr<NoticeDigest> digest_;
  EventSinks::Made sinks_made_;  // of the start
  std::optional<EventSinks> sinks_;
  std::optional<RunningStatus> insight_;
  std::optional<ControlService> service_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<SubmitServer> submit_;
  std::unique_ptr<DropFolder> drop_;
  // A reload that was asked for, and waits for the file to stay as it is.
  struct Reload {
    SteadyTime asked, look;
    FileRest file;
    std::uint64_t number = 0;  // of the last who waits for the verdict
  };
  std::optional<Reload> reload_;
  // Of a stop, for the thread that ends it when its time is over.
  struct StopClock {
    std::mutex mutex;
    bool unmaking = false;
    std::atomic<bool> told{false};
    std::atomic<const char*> stage{"receiving"};  // that has not ended
  };
  std::shared_ptr<StopClock> stop_clock_ = std::make_shared<StopClock>();
  ToolPaths opened_;  // the spool and the sockets stay until a restart
  EffectiveFile effective_;
};

}  // namespace postrider::daemon
