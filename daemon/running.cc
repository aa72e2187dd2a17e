#include "daemon/running.h"

#include "base/version.h"
#include "daemon/config/config_checks.h"
#include "daemon/control/kept_log.h"
#include "daemon/settings.h"
#include "daemon/signing/srs_keys.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <poll.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

unsigned loop_count(const Config& config) {
  return config.threads > 0 ? static_cast<unsigned>(config.threads) : WorkerPools::cores();
}

}  // namespace

Running::Running(Loaded loaded, std::vector<InheritedSocket> sockets, Events& events,
                 Notifier& notifier, std::shared_ptr<ParentClient> parent)
    : events_(events),
      notifier_(notifier),
      sockets_(std::move(sockets)),
      parts_(*loaded.config, std::move(parent)),
      reloader_(std::move(loaded), parts_, notifier),
      heartbeat_(parts_.foundation.clock(), notifier, parts_.loops),
      stop_(parts_, reloader_, events, notifier, heartbeat_) {}

// Each step needs the ones before it; within a step every problem is reported.
StartProblems Running::prepare() {
  StartProblems problems;
  const auto& loaded = reloader_.in_use();
  auto& rights = parts_.rights;
  rights.find_user(loaded, problems);
  find_pam_helper(problems);
  if (problems.none())
    rights.provide_folders(*loaded.config, problems);
  if (problems.none()) {
    rights.restrict_own_files(loaded);
    open_files(problems);
  }
  if (problems.none())
    make_parts(problems);
  rights.become_user(problems);
  if (problems.none())
    parts_.receiving->open_logins(*loaded.config, problems);
  if (problems.none())
    open_doors(problems);
  if (problems.none())
    restrict_own_calls(problems);
  return problems;
}

void Running::find_pam_helper(StartProblems& problems) const {
  if (!reloader_.config().auth.pam.empty() && smtpd::auth::find_pam_program().empty())
    problems.add(Error(Errc::not_found, "find postrider-pam"));
}

// As the user, who reads them again: what only root may read would fail at the first reload.
void Running::open_files(StartProblems& problems) {
  const auto& loaded = reloader_.in_use();
  const auto& config = *loaded.config;
  const auto acting = parts_.rights.act_as_user();
  if (acting && !*acting)
    problems.add(acting->error());
  parts_.foundation.open_log(loaded, problems);
  parts_.foundation.open_queue(config, problems);
  auto srs_problems = check_srs_keys(config, loaded.origins);
  if (parts_.foundation.has_log() && srs_problems.empty())
    parts_.tables.open(config, parts_.foundation, problems);
  auto credentials = check_credentials(config, loaded.origins);
  std::move(srs_problems.begin(), srs_problems.end(), std::back_inserter(credentials));
  if (!credentials.empty())
    problems.blame(loaded, std::move(credentials));
  if (parts_.foundation.has_log())
    parts_.keys.read(loaded, problems);
  parts_.filters.read_greylist();
}

// Receiving binds its ports before sending asks for their addresses.
void Running::make_parts(StartProblems& problems) {
  const auto& loaded = reloader_.in_use();
  const auto& config = *loaded.config;
  auto& p = parts_;
  auto& log = p.foundation.log();
  p.loops.make(loop_count(config), resolver_settings(config.dns), log);
  p.pools.emplace();
  p.filters.set_workers(&p.pools->signatures);
  p.limits.emplace(p.foundation.clock(), log, p.pools->files, config.spool + "/auth");
  const auto note_for_report = [&p](const mailauth::PublishedPolicy& policy,
                                    mailauth::ReportRow row) {
    p.reports->dmarc().add(policy, std::move(row));
  };
  p.receiving.emplace(ReceivingParts::Base{p.foundation, p.loops, p.tables, p.filters, *p.limits,
                                           *p.pools, *p.parent, note_for_report},
                      config.spool, std::move(sockets_));
  p.receiving->open(loaded, problems);
  if (!problems.none())
    return;
  p.sending.emplace(
      SendingParts::Base{p.foundation, p.loops, p.tables, *p.limits, p.parent, p.keys.signer()},
      config.spool);
  const auto settings =
      p.sending->settings(config, p.tables.in_use(), p.receiving->server().addresses());
  if (!settings)
    return problems.add(settings.error());
  p.reports.emplace(p.foundation, p.loops, *p.pools, p.keys.signer(), config.spool);
  if (auto configured = p.reports->configure(config); !configured)
    return problems.add(configured.error());
  p.reports->set_receiver(**settings);
  make_event_sinks(problems);
  p.sending->make(*settings, *p.reports);
}

// Their threads begin with the others; what is wrong with them is reported now.
void Running::make_event_sinks(StartProblems& problems) {
  auto& foundation = parts_.foundation;
  const auto& config = reloader_.config();
  const auto resolve = [&foundation, &loops = parts_.loops](const std::string& host,
                                                            const std::atomic<bool>& is_over) {
    return loops.resolve(host, is_over, foundation.told());
  };
  parts_.sinks.emplace(EventSinks::Parts{foundation.clock(), foundation.log(), foundation.told(),
                                         config.spool, config.hostname, resolve});
  parts_.sinks->use(&foundation.queue());
  auto made = parts_.sinks->prepare(config);
  if (!made)
    return problems.add(made.error());
  sinks_made_ = *std::move(made);
}

void Running::open_status() {
  auto& p = parts_;
  p.reloads.emplace([&events = events_] { events.post(Event::reload); });
  p.status.emplace(RunningStatus::Asked{
      p.foundation.queue(), p.sending->dispatcher(), p.receiving->server(), p.reports->tls(),
      p.reports->dmarc(), p.receiving->logins(), *p.limits, p.filters.authentication(),
      p.filters.milter_peers(), p.filters.client_state(), *p.sinks, p.foundation.log(),
      p.foundation.trace(), p.tables.watcher(), p.loops.stub_resolvers(), *p.reloads,
      reloader_.config().hostname, reloader_.in_use().file});
  auto& certificates = p.receiving->certificates();
  p.status->set_listeners(p.receiving->server().addresses());
  p.status->set_certificates(certificates.offer().identities);
  p.status->set_tables(p.tables.in_use().receiving);
  certificates.set_use([&p](const smtpd::TlsOffer& offer) -> Result<void> {
    if (auto offered = p.receiving->server().offer_tls(offer); !offered)
      return offered.error();
    p.status->set_certificates(offer.identities);
    return {};
  });
}

// As the user.
void Running::open_doors(StartProblems& problems) {
  const auto& config = reloader_.config();
  auto rules = local_rules(config);
  if (!rules)
    return problems.add(rules.error().during("sendmail.unlimited"));
  parts_.limits->set_rules(*std::move(rules));
  parts_.receiving->server().bind_elsewhere(
      [parent = parts_.parent](int socket, const sockaddr* address, socklen_t size) {
        return parent->bind(socket, address, size);
      });
  open_status();
  parts_.doors.emplace(parts_.foundation, parts_.loops.first(), *parts_.pools, *parts_.status);
  parts_.doors->open(config, local_settings(parts_, config), problems);
  parts_.doors->publish_places(reloader_.in_use());
}

void Running::restrict_own_calls(StartProblems& problems) {
  parts_.rights.restrict_own_calls(reloader_.config(), *parts_.parent, problems);
  parts_.status->set_confinement(parts_.rights.confinement());
}

void Running::start_threads() {
  auto& foundation = parts_.foundation;
  const auto& config = reloader_.config();
  parts_.sending->restore();
  foundation.trace().adopt(config);
  tell_kept(config.spool, foundation.told());
  parts_.sinks->adopt(std::move(sinks_made_));
  foundation.queue().start(&parts_.sending->dispatcher(), &*parts_.sinks);
  parts_.reports->start();
  parts_.receiving->start();
  parts_.doors->start();
  parts_.loops.start(foundation.log(), [&events = events_] { events.post(Event::stage_done); });
}

void Running::report_start() {
  auto& log = parts_.foundation.log();
  const auto& config = reloader_.config();
  const auto listeners = parts_.receiving->listeners();
  log.write(LogEvent(Level::info, "started")
                .add("version", version())
                .add("config", reloader_.in_use().file)
                .add("hostname", config.hostname)
                .add("spool", config.spool)
                .add("listeners", listeners)
                .add("threads", parts_.loops.count()));
  for (const auto& one : warnings_about(config))
    log.write(LogEvent(Level::warn, "doubtful").add("key", one.key).add("advice", one.text));
  if (geteuid() == 0)
    log.write(LogEvent(Level::warn, "runs_as_root").add("advice", "set user to another one"));
  parts_.rights.report(log);
  notifier_.ready("listening on " + listeners);
}

int Running::serve() {
  start_threads();
  report_start();
  reloader_.look_at_routes();
  for (;;) {
    Event event{};
    const bool has_event = events_.wait(pause(), event, parts_.parent->socket().get());
    if (!has_event && !reloader_.next_look())
      look_around();
    heartbeat_.beat();
    look_at_pam_helper();
    if (parts_.foundation.queue().is_lost()) {
      stop_.run();
      return EX_IOERR;
    }
    if (parent_is_gone()) {
      stop_.run();
      return EX_OSERR;
    }
    if (has_event && event == Event::stop)
      return stop_.run();
    if (has_event && event == Event::reload)
      reloader_.ask();
    reloader_.run_if_settled();
  }
}

// Until something has to be looked at again.
Duration Running::pause() const {
  auto pause = heartbeat_.pause().value_or(Duration(10000));
  if (!reloader_.config().delivery.route_map.empty())
    pause = std::min(pause, Duration(2000));
  if (const auto look = reloader_.next_look())
    pause =
        std::clamp(std::chrono::duration_cast<Duration>(*look - parts_.foundation.clock().steady()),
                   Duration(0), pause);
  // Storage that has failed is given up after a minute.
  if (parts_.foundation.queue().admission() == queue::Admission::failed)
    pause = std::min(pause, Duration(1000));
  return pause;
}

// For what has changed outside, as long as no event and no reload is waiting.
void Running::look_around() {
  const auto& loaded = reloader_.in_use();
  reloader_.look_at_routes();
  parts_.receiving->certificates().look(loaded);
  parts_.keys.look(loaded);
  parts_.filters.keep_greylist(*loaded.config, parts_.foundation.log());
  heap_.look();
}

void Running::look_at_pam_helper() {
  while (const auto status = parts_.parent->helper_ended()) {
    const auto how = WIFSIGNALED(*status) ? "signal " + std::to_string(WTERMSIG(*status))
                                          : "exit code " + std::to_string(WEXITSTATUS(*status));
    parts_.status->note_pam_ended(how, parts_.foundation.clock().now());
    parts_.foundation.told().write(LogEvent(Level::error, "pam_helper_ended")
                                       .add("how", how)
                                       .add("then", "it is started again"));
  }
}

// Without it no local mail is delivered: a restart makes another.
bool Running::parent_is_gone() {
  const auto& parent = *parts_.parent;
  pollfd watched{parent.socket().get(), POLLIN, 0};
  if (::poll(&watched, 1, 0) <= 0 || (watched.revents & POLLHUP) == 0)
    return false;
  parts_.foundation.log().write(
      LogEvent(Level::error, "parent_gone").add("pid", std::to_string(parent.pid())));
  return true;
}

}  // namespace postrider::daemon
