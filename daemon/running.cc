#include "daemon/running.h"

#include "base/file.h"
#include "base/file_at_rest.h"
#include "base/version.h"
#include "daemon/addresses.h"
#include "daemon/config/config_checks.h"
#include "daemon/privsep/capabilities.h"
#include "daemon/settings.h"
#include "daemon/signing/srs_keys.h"
#include "dns/fetch.h"

#include <algorithm>
#include <future>
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <thread>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr unsigned kPoolThreads = 2;
// Whoever floods us with handshakes gets what delivery leaves over.
constexpr int kTlsNiceness = 10;
constexpr mode_t kSpoolMode = 0700;
constexpr mode_t kSocketFolderMode = 0755;
constexpr mode_t kSinkFolderMode = 0750;

std::string folder_of(const std::string& path) {
  return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

// What was refused is a whole sentence, to which the word adds nothing.
void add(StartProblems& problems, const Error& error) {
  problems.lines.push_back("postrider: " +
                           (error.code() == Errc::refused ? error.step() : error.describe()));
  if (problems.exit_code == 0)
    problems.exit_code = EX_OSERR;
}

unsigned lane_count(const Config& config) {
  return config.threads > 0 ? static_cast<unsigned>(config.threads)
                            : std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

Running::Running(Loaded loaded, std::vector<InheritedSocket> sockets, Events& events,
                 Notifier& notifier, std::shared_ptr<ParentClient> parent)
    : loaded_(std::move(loaded)),
      started_(loaded_.config),
      sockets_(std::move(sockets)),
      events_(events),
      notifier_(notifier),
      parent_(std::move(parent)),
      next_beat_(clock_.steady()) {}

// Each step needs the ones before it; within a step every problem is reported.
StartProblems Running::prepare() {
  StartProblems problems;
  find_user(problems);
  find_pam_helper(problems);
  if (problems.lines.empty())
    provide_folders(problems);
  if (problems.lines.empty()) {
    restrict_own_files();
    auto acting = account_ ? std::optional(ActingAs::become(*account_)) : std::nullopt;
    if (acting && !*acting)
      add(problems, acting->error());
    open_log(problems);
    open_queue(problems);
    open_addresses(problems);
    look_at_credentials(problems);
    read_signing_keys(problems);
    read_greylist();
  }
  if (problems.lines.empty()) {
    make_lanes();
    make_parts(problems);
  }
  if (account_)
    drop_for_ever_but(0);
  if (problems.lines.empty() && account_)
    if (auto become = become_for_good(*account_); !become)
      add(problems, become.error());
  if (problems.lines.empty())
    open_auth(problems);
  if (problems.lines.empty())
    open_doors(problems);
  if (problems.lines.empty())
    restrict_own_calls(problems);
  return problems;
}

// A problem that the administrator solves in the configuration.
void Running::blame(StartProblems& problems, const char* key, const std::string& text) const {
  Loaded with_problem;
  with_problem.file = loaded_.file;
  const auto origin = loaded_.origins.find(key);
  with_problem.problems.push_back(
      {origin == loaded_.origins.end() ? 0 : origin->second, key, text});
  auto line = with_problem.describe();
  line.pop_back();
  problems.lines.push_back(std::move(line));
  problems.exit_code = EX_CONFIG;
}

void Running::find_user(StartProblems& problems) {
  const auto& user = loaded_.config->user;
  if (geteuid() != 0 || user.empty())
    return;
  auto account = find_account(user);
  if (account)
    account_ = *account;
  else if (account.error().code() == make_error_code(Errc::not_found))
    blame(problems, "user", "\"" + user + "\" is not a user of this system; expected a login name");
  else
    add(problems, account.error());
}

// As root, what the user could not make: below /run and /var.
void Running::provide_folders(StartProblems& problems) {
  if (!account_)
    return;
  const auto& config = *loaded_.config;
  const auto provide = [&](const std::string& path, mode_t mode) {
    if (auto provided = provide_folder(path, *account_, mode); !provided)
      add(problems, provided.error());
  };
  provide(config.spool, kSpoolMode);
  provide(folder_of(config.control.socket), kSocketFolderMode);
  for (const auto& sink : config.events)
    if (!sink.file.empty())
      provide(folder_of(sink.file), kSinkFolderMode);
  provide(folder_of(config.control.submit), kSocketFolderMode);
  if (config.log.target.starts_with('/'))
    provide(folder_of(config.log.target), kSocketFolderMode);
  constexpr std::string_view kUnix = "unix:";
  for (const auto& listener : config.listeners)
    if (listener.address.starts_with(kUnix))
      provide(folder_of(listener.address.substr(kUnix.size())), kSocketFolderMode);
}

// Before the first thread: Landlock holds for those that are started later.
void Running::restrict_own_files() {
  reach_ = sandbox_paths(*loaded_.config, loaded_.file);
  // What is missing now could not be made later; what cannot be made is reported by who needs it.
  // As the user, who may be able to.
  {
    auto acting = account_ ? std::optional(ActingAs::become(*account_)) : std::nullopt;
    if (!acting || *acting) {
      (void)make_folder(loaded_.config->spool, kSpoolMode);
      for (const auto& folder : reach_.write)
        if (::access(folder.c_str(), F_OK) != 0)
          (void)make_folder(folder, kSocketFolderMode);
    }
  }
  const auto why_not = restrict_files(reach_);
  confinement_.files =
      why_not.empty() ? "Landlock, version " + std::to_string(landlock_version()) : why_not;
  confinement_.files_held = why_not.empty();
}

// Once nothing is left to be opened with more rights. All threads.
void Running::restrict_own_calls(StartProblems& problems) {
  if (account_ || geteuid() != 0)
    if (auto none = keep_only(0, 0); !none)
      add(problems, none.error());
  hide_memory(!loaded_.config->sandbox.core_dumps);
  const auto why_not = restrict_calls();
  confinement_.calls = why_not.empty() ? "seccomp" : why_not;
  confinement_.calls_held = why_not.empty();
  confinement_.users =
      parent_->becomes_users()
          ? "as its user, by process " + std::to_string(parent_->pid())
          : "as " + (account_ ? account_->name : "uid " + std::to_string(geteuid())) + ", no other";
  insight_->set_confinement(confinement_);
}

void Running::open_log(StartProblems& problems) {
  const auto& config = *loaded_.config;
  try {
    log_ = std::make_unique<BackgroundLog>(log_target(config.log), log_format(config),
                                           config.log.level);
  } catch (const std::exception& error) {
    blame(problems, "log.target", std::string("cannot be opened: ") + error.what());
  }
}

void Running::open_queue(StartProblems& problems) {
  if (!log_)
    return;
  told_.emplace(*log_, clock_);
  trace_.emplace(clock_, *told_, loaded_.config->spool);
  auto queue = queue::Queue::open(queue_settings(*loaded_.config), clock_, *told_);
  if (queue)
    queue_ = std::move(*queue);
  else
    add(problems, queue.error());
}

// As the user: what only root may read would fail at the first reload.
void Running::open_addresses(StartProblems& problems) {
  if (!log_ || !check_srs_keys(*loaded_.config, loaded_.origins).empty())
    return;  // told with the credentials
  tables_.emplace(*log_);
  auto book = open_address_book(*loaded_.config, *tables_, clock_);
  if (!book)
    return add(problems, book.error());
  book_ = std::move(*book);
  auto tables = open_receiving_tables(*loaded_.config, *tables_, book_);
  if (!tables)
    return add(problems, tables.error());
  receiving_tables_ = std::move(*tables);
}

// As the user too, who reads them again.
void Running::look_at_credentials(StartProblems& problems) const {
  Loaded with_problems;
  with_problems.file = loaded_.file;
  with_problems.problems = check_credentials(*loaded_.config, loaded_.origins);
  for (auto& problem : check_srs_keys(*loaded_.config, loaded_.origins))
    with_problems.problems.push_back(std::move(problem));
  if (with_problems.problems.empty())
    return;
  auto lines = with_problems.describe();
  lines.pop_back();
  problems.lines.push_back(std::move(lines));
  problems.exit_code = EX_CONFIG;
}

void Running::make_lanes() {
  const auto settings = resolver_settings(loaded_.config->dns);
  for (unsigned number = 0; number < lane_count(*loaded_.config); ++number) {
    lanes_.push_back(std::make_unique<Lane>(number));
    auto& lane = *lanes_.back();
    lane.resolver = std::make_unique<dns::StubResolver>(lane.loop, settings, *log_, lane.random);
  }
}

void Running::make_parts(StartProblems& problems) {
  const auto& config = *loaded_.config;
  tls_workers_.emplace(std::max(1U, std::thread::hardware_concurrency()), kTlsNiceness);
  signers_.emplace(std::max(1U, std::thread::hardware_concurrency()));
  read_certificates(problems);
  auto listeners = listener_settings(config, sockets_);
  if (!listeners)
    add(problems, listeners.error());
  if (!problems.lines.empty())
    return;
  directory_ = std::make_shared<delivery::LocalDirectory>(book_, config.local.mailbox, clock_);
  pool_.emplace(kPoolThreads);
  local_limits_.emplace(clock_, *log_, *pool_, config.spool + "/auth");
  auth_ = std::make_shared<smtpd::auth::AuthService>(clock_, *log_, config.spool + "/auth");
  auth_->set_pam_helper(pam_);
  const auto resolver_of = [this](Loop& loop) -> dns::Resolver& {
    return *lanes_[loop.number()]->resolver;
  };
  auth_->set_resolvers(resolver_of);
  auto of_clients = client_checks(config, receiving_tables_, client_checks_);
  if (!of_clients)
    return add(problems, of_clients.error());
  auto receiving =
      smtpd_settings(config, directory_, auth_, receiving_tables_, &*local_limits_, filters(config),
                     check_parts(), *std::move(of_clients), failure_counter(config));
  if (!receiving)
    return add(problems, receiving.error());
  std::vector<Loop*> loops;
  for (const auto& lane : lanes_)
    loops.push_back(&lane->loop);
  custody_.emplace(*queue_);
  const auto own_resolver = [this]() -> dns::Resolver& { return *lanes_.front()->resolver; };
  outbound_.emplace(
      Outbound::Parts{*loops.front(), own_resolver, clock_, *told_, parent_, config.spool});
  server_ = std::make_unique<smtpd::Server>(loops, *custody_, clock_, *told_, *receiving);
  std::vector<dns::Resolver*> resolvers;
  for (const auto& lane : lanes_)
    resolvers.push_back(lane->resolver.get());
  server_->ask_questions_of(resolvers);
  server_->limit_users([this](std::uint32_t uid) { return local_limits_->limited_party(uid); });
  if (auto offered = server_->offer_tls(tls_offer_); !offered)
    return add(problems, offered.error());
  if (auto listening = server_->listen(*listeners); !listening)
    return add(problems, listening.error());
  auto sending = delivery_settings(config, server_->addresses(), book_, directory_, &*outbound_,
                                   &*local_limits_, signer_, receiving_tables_.route_map);
  if (!sending)
    return add(problems, sending.error());
  const OwnMail own_mail{&*queue_, loops.front(), &*pool_, log_.get(), signer_};
  tls_parts_ = std::make_unique<TlsParts>(*loops.front(), own_resolver, clock_, *told_, *pool_,
                                          own_mail, config.spool);
  if (auto configured = tls_parts_->configure(config); !configured)
    return add(problems, configured.error());
  dmarc_parts_ = std::make_unique<DmarcParts>(*loops.front(), own_resolver, clock_, *told_, *pool_,
                                              own_mail, config.spool);
  dmarc_parts_->prepared(config)();
  make_event_sinks(problems);
  dispatcher_ = std::make_unique<delivery::Dispatcher>(loops, *queue_, resolver_of, clock_, *told_,
                                                       *directory_, *sending);
  dispatcher_->use({tls_parts_->sts(), tls_parts_->observer()});
  digest_ = std::make_shared<NoticeDigest>(clock_, own_mail, config.spool + "/double-bounces.json");
  digest_->configure(digest_receiver(**sending));
  dispatcher_->set_double_bounces(digest_->double_bounces());
}

// Their threads begin with the others; what is wrong with them is told now.
void Running::make_event_sinks(StartProblems& problems) {
  const auto resolve = [this](const std::string& host, const std::atomic<bool>& is_over)
      -> Result<std::vector<asio::ip::address>> { return resolve_for_sinks(host, is_over); };
  sinks_.emplace(EventSinks::Parts{clock_, *log_, *told_, loaded_.config->spool,
                                   loaded_.config->hostname, resolve});
  sinks_->use(queue_.get());
  auto made = sinks_->prepare(*loaded_.config);
  if (!made)
    return add(problems, made.error());
  sinks_made_ = *std::move(made);
}

namespace {

using SinkAddresses = Result<std::vector<asio::ip::address>>;

Task<void> look_up_for_sink(dns::Resolver* resolver, std::string host, dns::Families families,
                            std::shared_ptr<std::promise<SinkAddresses>> answer) {
  auto found = co_await dns::addresses_of(*resolver, std::move(host), families);
  answer->set_value(std::move(found));
}

}  // namespace

// On a sink's thread, which waits for the loop, but not for ever.
Result<std::vector<asio::ip::address>> Running::resolve_for_sinks(
    const std::string& host, const std::atomic<bool>& is_over) {
  constexpr auto kLookUp = std::chrono::seconds(30);
  constexpr auto kPiece = std::chrono::milliseconds(100);
  auto answer = std::make_shared<std::promise<SinkAddresses>>();
  auto found = answer->get_future();
  auto& lane = *lanes_.front();
  lane.loop.post([&lane, &log = *told_, host, answer] {
    lane.loop.spawn(look_up_for_sink(lane.resolver.get(), host, dns::Families::both, answer), log,
                    "event sink");
  });
  for (auto waited = kPiece; waited < kLookUp && !is_over; waited += kPiece)
    if (found.wait_for(kPiece) == std::future_status::ready)
      return found.get();
  return Error(Errc::stopped, "resolve " + host);
}

// The parent starts it, and starts it again.
void Running::find_pam_helper(StartProblems& problems) {
  pam_ = std::make_shared<smtpd::auth::PamHelper>(parent_->take_pam_socket());
  if (!loaded_.config->auth.pam.empty() && smtpd::auth::find_pam_program().empty())
    add(problems, Error(Errc::not_found, "find postrider-pam"));
}

// As the user, who must be able to read the files again at a reload.
void Running::open_auth(StartProblems& problems) {
  const auto settings = auth_settings(*loaded_.config);
  if (!settings)
    return add(problems, settings.error());
  auto tables = auth_->prepare(*settings);
  // Nothing runs yet that the wait could hold up; a reload goes on with what it had.
  const auto end = clock_.steady() + kUnfinishedRest + std::chrono::seconds(1);
  while (!tables && is_perhaps_unfinished(tables.error()) && clock_.steady() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    tables = auth_->prepare(*settings);
  }
  if (!tables)
    return add(problems, tables.error());
  auth_->adopt(std::move(*tables));
}

// The doors for the tools, as the user.
void Running::open_doors(StartProblems& problems) {
  const auto& config = *loaded_.config;
  auto rules = local_rules(config);
  if (!rules)
    return add(problems, rules.error().during("sendmail.unlimited"));
  local_limits_->set_rules(*std::move(rules));
  auto& loop = lanes_.front()->loop;
  dispatcher_->set_performer(parent_);
  server_->bind_elsewhere([parent = parent_](int socket, const sockaddr* address, socklen_t size) {
    return parent->bind(socket, address, size);
  });
  insight_.emplace(*dispatcher_, *server_, *tls_parts_, *dmarc_parts_, *auth_, *local_limits_,
                   checks_, milters_, client_checks_, config.hostname, loaded_.file);
  insight_->set_waker([&events = events_] { events.post(Event::reload); });
  insight_->set_sinks(&*sinks_);
  insight_->set_log(log_.get());
  insight_->set_trace(&*trace_);
  insight_->set_listeners(server_->addresses());
  insight_->set_certificates(tls_offer_.identities);
  insight_->set_tables(receiving_tables_);
  insight_->set_watcher(&*tables_);
  std::vector<const dns::StubResolver*> resolvers;
  for (const auto& lane : lanes_)
    resolvers.push_back(lane->resolver.get());
  insight_->set_resolvers(std::move(resolvers));
  const auto take = [&](auto& member, auto opened) {
    if (opened)
      member = std::move(*opened);
    else
      add(problems, opened.error());
  };
  take(submit_, SubmitServer::open(config.control.submit, loop, *pool_, *queue_, clock_, *told_,
                                   local_settings(config)));
  take(drop_, DropFolder::open(config.spool, loop, *pool_, *queue_, clock_, *told_,
                               local_settings(config)));
  DropPlace drop{config.spool, config.origin, config.accept.message_size, {}};
  if (drop_)
    drop.why = drop_->reasons();
  service_.emplace(*queue_, clock_, &*insight_, std::move(drop));
  take(control_, ControlServer::open(config.control.socket, loop, *service_, *log_, {}));
  if (control_)
    if (auto set = control_->set_readers(known_readers(config)); !set)
      return add(problems, set.error().during("control.readers"));
  opened_ = places_of(config);
  publish_places();
}

// A group that is gone since gives nobody a right, and is no reason to be down; whoever names one
// anew hears of it by `postrider check` and the reload.
std::optional<gid_t> Running::known_readers(const Config& config) {
  const auto readers = control_readers(config);
  if (readers)
    return *readers;
  log_->write(LogEvent(Level::warn, "doubtful")
                  .add("key", "control.readers")
                  .add("advice", readers.error().step()));
  return std::nullopt;
}

// The tools can do without, as long as the configuration is right.
void Running::publish_places() {
  auto places = places_of(*loaded_.config);
  places.spool = opened_.spool;
  places.control_socket = opened_.control_socket;
  places.submit_socket = opened_.submit_socket;
  places.user = opened_.user;
  if (auto published = effective_.publish(places, loaded_.file); !published)
    log_->write(
        LogEvent(Level::warn, "places_not_published").add("error", published.error().describe()));
}

std::string Running::summary() const {
  std::string out;
  for (const auto& address : server_->addresses())
    out.append(out.empty() ? "" : ", ").append(address);
  return out.empty() ? "none" : out;
}

void Running::start_threads() {
  dispatcher_->restore(queue_->sites());
  trace_->adopt(*loaded_.config);
  tell_kept(loaded_.config->spool, *told_);
  sinks_->adopt(std::move(sinks_made_));
  queue_->start(dispatcher_.get(), &*sinks_);
  tls_parts_->start();
  dmarc_parts_->start();
  digest_->load();
  digest_->start();
  server_->start();
  control_->start();
  submit_->start();
  drop_->start();
  for (auto& lane : lanes_) {
    lane->thread = std::thread([this, &lane = *lane] { run_lane(lane); });
    const auto name = "loop " + std::to_string(lane->loop.number());
    pthread_setname_np(lane->thread.native_handle(), name.c_str());
  }
}

// What a handler throws is a bug of ours. Going on could break promises; a restart keeps them.
void Running::run_lane(Lane& lane) {
  try {
    lane.loop.run();
  } catch (const std::exception& error) {
    log_->write(LogEvent(Level::error, "bug").add("where", "loop").add("what", error.what()));
    log_->flush();
    std::abort();
  }
  events_.post(Event::stage_done);
}

int Running::serve() {
  const auto& config = *loaded_.config;
  start_threads();
  log_->write(LogEvent(Level::info, "started")
                  .add("version", version())
                  .add("config", loaded_.file)
                  .add("hostname", config.hostname)
                  .add("spool", config.spool)
                  .add("listeners", summary())
                  .add("threads", lanes_.size()));
  for (const auto& one : warnings_about(config))
    log_->write(LogEvent(Level::warn, "doubtful").add("key", one.key).add("advice", one.text));
  if (geteuid() == 0)
    log_->write(LogEvent(Level::warn, "runs_as_root").add("advice", "set user to another one"));
  tell_confinement();
  notifier_.ready("listening on " + summary());
  look_at_routes();
  for (;;) {
    Event event{};
    const auto watchdog = notifier_.watchdog();
    auto pause = watchdog ? *watchdog / 4 : Duration(10000);
    if (!loaded_.config->delivery.route_map.empty())
      pause = std::min(pause, Duration(2000));
    if (reload_)
      pause = std::clamp(std::chrono::duration_cast<Duration>(reload_->look - clock_.steady()),
                         Duration(0), pause);
    // Storage that has failed is given up after a minute.
    if (queue_->admission() == queue::Admission::failed)
      pause = std::min(pause, Duration(1000));
    const bool has_event = events_.wait(pause, event, parent_->socket().get());
    if (!has_event && !reload_) {
      look_at_routes();
      look_at_certificates();
      look_at_signing_keys();
      keep_greylist();
      heap_.look();
    }
    if (watchdog)
      keep_alive();
    look_at_pam_helper();
    if (queue_->is_lost()) {
      stop();
      return EX_IOERR;
    }
    if (parent_is_gone()) {
      stop();
      return EX_OSERR;
    }
    if (has_event && event == Event::stop)
      return stop();
    if (has_event && event == Event::reload)
      ask_for_reload();
    if (reload_ && clock_.steady() >= reload_->look)
      reload_if_settled();
  }
}

// What holds, and plainly what does not.
void Running::tell_confinement() {
  const bool all = confinement_.calls_held && confinement_.files_held;
  log_->write(LogEvent(all ? Level::info : Level::warn, "confined")
                  .add("calls", confinement_.calls_held ? "on" : "off")
                  .add("files", confinement_.files_held ? "on" : "off")
                  .add("by", confinement_.calls + "; " + confinement_.files)
                  .add("local_delivery", confinement_.users));
}

void Running::look_at_pam_helper() {
  while (const auto status = parent_->helper_ended()) {
    const auto how = WIFSIGNALED(*status) ? "signal " + std::to_string(WTERMSIG(*status))
                                          : "exit code " + std::to_string(WEXITSTATUS(*status));
    insight_->note_pam_ended(how, clock_.now());
    told_->write(LogEvent(Level::error, "pam_helper_ended")
                     .add("how", how)
                     .add("then", "it is started again"));
  }
}

// Without it no local mail is delivered: a restart makes another.
bool Running::parent_is_gone() {
  pollfd watched{parent_->socket().get(), POLLIN, 0};
  if (::poll(&watched, 1, 0) <= 0 || (watched.revents & POLLHUP) == 0)
    return false;
  log_->write(LogEvent(Level::error, "parent_gone").add("pid", std::to_string(parent_->pid())));
  return true;
}

// A loop that hangs keeps the word from the service manager, which then restarts us.
void Running::keep_alive() {
  const auto now = clock_.steady();
  if (now < next_beat_ || !lanes_are_alive())
    return;
  notifier_.alive();
  next_beat_ = now + *notifier_.watchdog() / 4;
}

bool Running::lanes_are_alive() {
  const bool all = std::all_of(lanes_.begin(), lanes_.end(),
                               [](const auto& lane) { return lane->answered.load(); });
  if (all)
    for (auto& lane : lanes_) {
      lane->answered = false;
      lane->loop.post([&lane = *lane] { lane.answered = true; });
    }
  return all;
}

}  // namespace postrider::daemon
