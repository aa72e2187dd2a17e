#include "brokers/program.h"

#include "brokers/batch_taker.h"
#include "brokers/door.h"
#include "brokers/request_taker.h"

#include "base/log.h"
#include "base/secret_file.h"
#include "base/standard_error_log.h"
#include "base/standard_streams.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/config/config_file.h"
#include "daemon/notify.h"
#include "daemon/privsep/privileges.h"
#include "daemon/privsep/sandbox.h"
#include "daemon/protocol/submit_call.h"
#include "daemon/protocol/tool_paths.h"

#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace postrider::brokers {

namespace {

constexpr std::size_t kMostPassword = 4096;
constexpr Duration kPauseAfterTrouble{1000};
// Of what carries events: mail goes first where the processor is short.
constexpr int kNiceness = 15;

struct Served {
  std::string name;
  std::unique_ptr<Publisher> publisher;
  std::unique_ptr<BatchTaker> taker;
  std::unique_ptr<Door> door;
};

// One connection to a source of requests.
struct Taken {
  std::unique_ptr<Consumer> consumer;
  std::unique_ptr<Publisher> refusals;
  std::unique_ptr<RequestTaker> taker;
};

int complain(const Program& program, int code, const std::string& sentence) {
  std::fprintf(stderr, "%s: %s\n", program.name, escaped(sentence, 1000).c_str());
  return code;
}

// One line, which nobody else may read.
Result<std::string> read_password(const std::string& path) {
  if (path.empty())
    return std::string();
  auto text = read_secret_file(path, kMostPassword);
  if (!text)
    return text.error();
  while (text->ends_with('\n') || text->ends_with('\r'))
    text->pop_back();
  if (text->empty() || text->find('\n') != std::string::npos)
    return malformed(path + ": is not a password; expected one line");
  return text;
}

// Where the daemon stays root, so do we.
Result<void> give_up_root(const daemon::Config& config) {
  if (::geteuid() != 0 || config.user.empty())
    return {};
  const auto account = daemon::find_account(daemon::kBrokersUser);
  if (!account)
    return account.error();
  return daemon::become_for_good(*account);
}

// Who may bring events: the daemon, root, and who we are.
std::vector<uid_t> callers_of(const daemon::Config& config) {
  std::vector<uid_t> callers = {0, ::geteuid()};
  if (const auto account = daemon::find_account(config.user); account && !config.user.empty())
    callers.push_back(account->uid);
  return callers;
}

Result<Served> make(const Program& program, const daemon::Config& config,
                    const daemon::EventsConfig& sink, const events::BrokerUrl& url,
                    const Clock& clock) {
  auto password = read_password(sink.password);
  if (!password)
    return password.error().during("events.password");
  auto door = Door::open(sink.door(), callers_of(config));
  if (!door)
    return door.error().during("events.socket");
  Served served;
  served.name = sink.name;
  served.publisher = program.make({sink.name, config.hostname, url, *std::move(password),
                                   sink.exchange, sink.topic, config.delivery.tls_ca},
                                  clock);
  // The daemon waits for a quarter longer, and hears why.
  served.taker =
      std::make_unique<BatchTaker>(*served.publisher, clock, sink.timeout * 3 / 4,
                                   [](Duration pause) { std::this_thread::sleep_for(pause); });
  served.door = std::make_unique<Door>(*std::move(door));
  return served;
}

// By MQTT each would have all messages.
std::uint64_t connections_to(const events::BrokerUrl& url, const daemon::RequestsConfig& source) {
  return url.protocol == "mqtt" ? 1 : source.connections;
}

Result<void> make(const Program& program, const daemon::Config& config,
                  const daemon::RequestsConfig& source, const events::BrokerUrl& url,
                  const Clock& clock, Log& log, std::vector<Taken>& all) {
  static RequestTaker::Large large;
  auto password = read_password(source.password);
  if (!password)
    return password.error().during("requests.password");
  PublisherSettings settings{source.name,   config.hostname,       url, *std::move(password), "",
                             source.source, config.delivery.tls_ca};
  auto told = settings;
  told.topic = source.refused;
  told.name += ".refused";  // a client's name, of which a broker may suffer one
  const auto refused = std::make_shared<RequestTaker::Count::element_type>();
  for (std::uint64_t i = 0; i < connections_to(url, source); ++i) {
    Taken one;
    one.consumer = program.consume(settings, clock);
    if (!source.refused.empty())
      one.refusals = program.make(told, clock);
    one.taker = std::make_unique<RequestTaker>(
        RequestTaker::Settings{
            source.name, config.hostname, url.protocol, config.accept.message_size,
            [path = config.control.submit](const auto& header, std::string_view content) {
              return daemon::submit_for(path, header, content);
            },
            [](Duration pause) { std::this_thread::sleep_for(pause); }, refused, &large},
        *one.consumer, one.refusals.get(), clock, log);
    all.push_back(std::move(one));
  }
  return {};
}

// What the C library, its name services and the clients' libraries read later.
void confine(const daemon::Config& config, Log& log) {
  daemon::SandboxPaths paths;
  paths.read = {"/etc/resolv.conf",
                "/etc/hosts",
                "/etc/nsswitch.conf",
                "/etc/gai.conf",
                "/etc/host.conf",
                "/etc/services",
                "/etc/ssl",
                "/etc/pki",
                "/run/systemd/resolve",
                "/usr/lib",
                "/lib",
                "/lib64",
                "/usr/share/ca-certificates",
                "/usr/share/zoneinfo",
                "/etc/localtime",
                "/proc/self",
                "/dev/urandom",
                "/dev/null",
                "/sys/devices/system/cpu"};
  if (!config.delivery.tls_ca.empty())
    paths.read.push_back(config.delivery.tls_ca);
  for (const auto& trouble : {daemon::restrict_files(paths), daemon::restrict_calls()})
    if (!trouble.empty())
      log.write(LogEvent(Level::warn, "broker_not_confined").add("reason", trouble));
  daemon::hide_memory(true);
}

[[noreturn]] void serve(Served& served, Log& log) {
  (void)::setpriority(PRIO_PROCESS, 0, kNiceness);  // of this thread alone
  for (;;) {
    const auto done =
        served.door->serve([&](std::string_view batch) { return served.taker->take(batch); },
                           [&] { served.publisher->tend(); });
    if (done)
      continue;
    log.write(LogEvent(Level::warn, "broker_caller_lost")
                  .add("sink", served.name)
                  .add("reason", done.error().describe()));
    std::this_thread::sleep_for(kPauseAfterTrouble);
  }
}

int wait_for_end(const Program& program, const sigset_t& signals, Log& log) {
  int number = 0;
  while (::sigwait(&signals, &number) != 0)
    continue;
  log.write(LogEvent(Level::info, "broker_program_stopped").add("program", program.name));
  ::_exit(0);  // nothing is kept here; the threads may be waiting for a broker
}

// Those of this program's protocol.
Result<std::vector<Taken>> sources_of(const Program& program, const daemon::Config& config,
                                      const Clock& clock, Log& log) {
  std::vector<Taken> all;
  for (const auto& source : config.requests) {
    const auto url = events::parse_broker_url(source.broker);
    if (!program.consume || !url || url->protocol != program.protocol)
      continue;
    if (auto made = make(program, config, source, *url, clock, log, all); !made)
      return made.error().during("the source of requests " + source.name);
  }
  return all;
}

int serve_all(const Program& program, const daemon::Config& config) {
  static StandardErrorLog log;
  static const SystemClock clock;
  static std::vector<Served> all;
  static std::vector<Taken> sources;
  if (auto rights = give_up_root(config); !rights)
    return complain(program, EX_CONFIG, rights.error().describe());
  for (const auto& sink : config.events) {
    const auto url = events::parse_broker_url(sink.broker);
    if (!url || url->protocol != program.protocol)
      continue;
    auto served = make(program, config, sink, *url, clock);
    if (!served)
      return complain(program, EX_CONFIG,
                      served.error().during("the events sink " + sink.name).describe());
    all.push_back(*std::move(served));
  }
  auto taken = sources_of(program, config, clock, log);
  if (!taken)
    return complain(program, EX_CONFIG, taken.error().describe());
  sources = *std::move(taken);
  if (all.empty() && sources.empty())
    return complain(
        program, EX_CONFIG,
        "no sink of events and no source of requests has a broker of this protocol; for "
        "example: [[events]] "
        "broker = \"" +
            std::string(program.protocol) + "://localhost\"");
  auto notifier = daemon::Notifier::from_environment();
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP})
    ::sigaddset(&signals, number);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  confine(config, log);
  for (auto& one : all)
    std::thread([&one] { serve(one, log); }).detach();
  for (auto& one : sources)
    std::thread([&one] {
      for (;;)
        one.taker->turn();
    }).detach();
  log.write(LogEvent(Level::info, "broker_program_started")
                .add("program", program.name)
                .add("sinks", static_cast<std::uint64_t>(all.size()))
                .add("request_connections", static_cast<std::uint64_t>(sources.size())));
  notifier.ready("serving");
  return wait_for_end(program, signals, log);
}

}  // namespace

int run_program(const Program& program, int count, char** arguments) {
  ::signal(SIGPIPE, SIG_IGN);
  guard_standard_streams();
  CLI::App app("Carries Postrider's events to message brokers, and mail requests from there.",
               program.name);
  std::string file;
  app.add_option("-c", file, "The configuration; otherwise $POSTRIDER_CONFIG or the usual file");
  app.set_version_flag("--version", std::string(program.name) + " " + std::string(version()));
  try {
    app.parse(count, arguments);
  } catch (const CLI::Success& wanted) {  // --help, --version
    std::ostringstream help;  // which may be lost on the way out, and the reason of that with it
    app.exit(wanted, help);
    std::fputs(help.str().c_str(), stdout);
    return end_standard_output(program.name, EX_OK);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s; see `%s --help`\n", program.name,
                 escaped(error.what(), 1000).c_str(), program.name);
    return EX_USAGE;
  }
  ::umask(077);
  const auto loaded = daemon::load_or_defaults({file});
  if (!loaded.config) {
    std::fputs(loaded.describe().c_str(), stderr);
    return loaded.exit_code();
  }
  return serve_all(program, *loaded.config);
}

}  // namespace postrider::brokers
