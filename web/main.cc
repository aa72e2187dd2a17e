// postrider-web: metrics, the JSON API and a page, for the daemon of this machine. A process of its
// own, without the daemon's rights and without mail in its memory but what somebody asks for: it
// reaches the daemon by the control socket alone, as the tools do.
#include "web/pam_door.h"
#include "web/web_server.h"
#include "web/web_site.h"

#include "base/file.h"
#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/loop.h"
#include "base/standard_error_log.h"
#include "base/standard_streams.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/config/config_file.h"
#include "daemon/notify.h"
#include "daemon/privsep/privileges.h"
#include "daemon/privsep/sandbox.h"
#include "daemon/protocol/control_client.h"
#include "daemon/protocol/submit_call.h"
#include "daemon/protocol/tool_paths.h"

#include <CLI/CLI.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/signal_set.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <sstream>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

using namespace postrider;

namespace {

constexpr Duration kPatience{20000};  // for a line of the daemon's answer
// Of one that hangs: those who watch it wait no longer, Prometheus for ten seconds.
constexpr Duration kStatusPatience{4000};
constexpr unsigned kThreads = 6;  // two logins and two searches leave some
constexpr std::string_view kUnix = "unix:";

int complain(int code, const std::string& sentence) {
  std::fprintf(stderr, "postrider-web: %s\n", escaped(sentence, 1000).c_str());
  return code;
}

class SocketPort : public web::ControlPort {
 public:
  explicit SocketPort(std::string path) : path_(std::move(path)) {}
  Result<daemon::ControlEnd> ask(const daemon::ControlRequest& request,
                                 const OnLine& on_line) override {
    const auto patience = request.act == "status" ? kStatusPatience : kPatience;
    auto connection = daemon::LocalConnection::connect(path_, patience);
    if (!connection)
      return connection.error();
    connection->set_timeout(patience);
    return daemon::ask(*connection, request, on_line);
  }

 private:
  const std::string path_;
};

std::string host_of(const std::string& address) {
  return ascii_lower(address.substr(0, address.rfind(':')));
}

std::vector<std::string> hosts_of(const daemon::Config& config) {
  std::vector<std::string> hosts{"localhost", "127.0.0.1", "[::1]", ascii_lower(config.hostname)};
  for (const auto& address : config.web.listen)
    if (address.rfind(kUnix, 0) != 0)
      hosts.push_back(host_of(address));
  for (const auto& host : config.web.hosts)
    hosts.push_back(ascii_lower(host));
  return hosts;
}

bool is_of_this_machine(const std::string& address) {
  for (const auto own : {kUnix, std::string_view("127."), std::string_view("[::1]:"),
                         std::string_view("localhost:")})
    if (address.rfind(own, 0) == 0)
      return true;
  return false;
}

// The group of the daemon is what opens the control socket.
Result<void> give_up_root(const daemon::Config& config) {
  if (::geteuid() != 0 || config.web.user.empty())
    return {};
  const auto account = daemon::find_account(config.web.user);
  if (!account)
    return account.error().during("web.user");
  return daemon::become_for_good(*account);
}

void confine(const daemon::Config& config, Log& log) {
  daemon::SandboxPaths paths;
  paths.read = {std::filesystem::path(config.web.tokens).parent_path().string(), "/proc",
                "/etc/localtime"};
  for (const auto& address : config.web.listen)
    if (address.rfind(kUnix, 0) == 0)  // is removed at the end
      paths.write.push_back(
          std::filesystem::path(address.substr(kUnix.size())).parent_path().string());
  for (const auto& trouble : {daemon::restrict_files(paths), daemon::restrict_calls()})
    if (!trouble.empty())
      log.write(LogEvent(Level::warn, "web_not_confined").add("reason", trouble));
  daemon::hide_memory(true);
}

Task<void> take_samples(Loop& loop, BlockingPool& pool, web::WebSite& site, const bool& stopping) {
  using SteadyClock = std::chrono::steady_clock;
  asio::basic_waitable_timer<SteadyClock, asio::wait_traits<SteadyClock>, Executor> timer(
      loop.executor());
  while (!stopping) {
    const std::function<bool()> job = [&site] {
      site.sample();
      return true;
    };
    co_await pool.run<bool>(loop, job);
    timer.expires_after(std::chrono::seconds(web::History::kPace));
    for (int i = 0; i < web::History::kPace * 4 && !stopping; ++i) {
      timer.expires_after(std::chrono::milliseconds(250));
      co_await timer.async_wait(asio::as_tuple(use_task));
    }
  }
}

int serve(const daemon::Config& config) {
  StandardErrorLog log;
  SystemClock clock;
  SocketPort port(config.control.socket);
  web::WebSite::Settings settings;
  settings.hosts = hosts_of(config);
  settings.metrics_need_token = config.web.metrics_need_token;
  settings.request_size = config.web.request_size;
  settings.message_size = config.accept.message_size;
  if (!config.control.submit.empty())
    settings.submit = [path = config.control.submit](const auto& header, auto content) {
      return daemon::submit_for(path, header, content);
    };
  settings.tokens = [path = config.web.tokens, &log]() -> Result<std::vector<web::Token>> {
    auto tokens = web::read_tokens(path);
    if (!tokens)
      log.write(
          LogEvent(Level::error, "web_tokens_unreadable").add("reason", tokens.error().describe()));
    return tokens;
  };
  if (!config.web.pam.empty())
    settings.judge = [door = config.control.web_login()](const auto& user, const auto& password,
                                                         const auto& client) {
      return web::ask_pam(door, user, password, client);
    };
  web::WebSite site(std::move(settings), port, clock, log);
  Loop loop(0);
  web::WebServer server(loop, site, log, web::WebServer::Limits());
  for (const auto& address : config.web.listen) {
    if (auto bound = server.listen(address); !bound)
      return complain(EX_OSERR, "web.listen: " + bound.error().describe());
    if (!is_of_this_machine(address))
      log.write(LogEvent(Level::warn, "web_in_clear")
                    .add("address", address)
                    .add("reason",
                         "tokens cross the network in clear; a proxy with TLS belongs in front"));
  }
  auto notifier = daemon::Notifier::from_environment();
  if (auto rights = give_up_root(config); !rights)
    return complain(EX_CONFIG, rights.error().describe());
  confine(config, log);  // Landlock binds this thread and those that it makes
  BlockingPool pool(kThreads);
  server.answer_by(pool);
  bool stopping = false;
  asio::basic_signal_set<Executor> signals(loop.executor(), SIGTERM, SIGINT);
  signals.async_wait([&](const boost::system::error_code& code, int) {
    if (code)
      return;
    stopping = true;
    server.stop();
    loop.finish();
  });
  loop.spawn(take_samples(loop, pool, site, stopping), log, "web samples");
  log.write(LogEvent(Level::info, "web_started").add("version", version()));
  notifier.ready("serving");
  loop.run();
  log.write(LogEvent(Level::info, "web_stopped"));
  return 0;
}

// Appends its line to the file, which is made if it is missing, and shows the token once.
int add_token(const daemon::Config& config, const std::string& role, const std::string& name) {
  const auto& path = config.web.tokens;
  if (name.empty() || name.size() > 64 ||
      !std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; }))
    return complain(EX_USAGE, "a name has 1 to 64 printable ASCII characters and no spaces");
  const auto made = web::make_token(web::parse_role(role), name);
  constexpr mode_t kMode = 0640;
  const FileDescriptor file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, kMode));
  struct stat found {};
  if (file.get() < 0 || ::fstat(file.get(), &found) != 0)
    return complain(EX_CANTCREAT, "cannot write " + path + ": " + system_error("open").describe());
  if (!S_ISREG(found.st_mode) || (found.st_uid != ::geteuid() && ::geteuid() != 0))
    return complain(EX_NOPERM, path + " is not a regular file of ours");
  const auto account = daemon::find_account(config.web.user);
  if (found.st_size == 0 && ::geteuid() == 0 && account)
    if (::fchown(file.get(), 0, account->gid) != 0)
      return complain(EX_OSERR, "cannot give " + path + " to the group of " + config.web.user);
  if (::write(file.get(), made.line.data(), made.line.size()) !=
          static_cast<ssize_t>(made.line.size()) ||
      ::fsync(file.get()) != 0)
    return complain(EX_IOERR, "cannot write " + path + ": " + system_error("write").describe());
  std::printf("%s\n", made.secret.c_str());
  const int code = end_standard_output("postrider-web", EX_OK);
  if (code != EX_OK)
    complain(code, "the token that nobody has seen is the last line of " + path + "; take it out");
  return code;
}

}  // namespace

int main(int count, char** arguments) {
  std::signal(SIGPIPE, SIG_IGN);
  guard_standard_streams();
  CLI::App app("Metrics, the JSON API and the page of Postrider.", "postrider-web");
  std::string file, role, name;
  app.add_option("-c", file, "The configuration; otherwise $POSTRIDER_CONFIG or the usual file");
  app.set_version_flag("--version", "postrider-web " + std::string(version()));
  auto* token =
      app.add_subcommand("token", "Makes a token, shows it once, and adds its hash to web.tokens");
  token->add_option("role", role, "read, change or send")
      ->required()
      ->check(CLI::IsMember({"read", "change", "send"}));
  token->add_option("name", name, "whose it is")->required();
  try {
    app.parse(count, arguments);
  } catch (const CLI::Success& wanted) {  // --help, --version
    std::ostringstream help;  // which may be lost on the way out, and the reason of that with it
    app.exit(wanted, help);
    std::fputs(help.str().c_str(), stdout);
    return end_standard_output("postrider-web", EX_OK);
  } catch (const CLI::ParseError& error) {
    return complain(EX_USAGE, error.what() + std::string("; see `postrider-web --help`"));
  }
  const auto loaded = daemon::load_or_defaults({file});
  if (!loaded.config) {
    std::fputs(loaded.describe().c_str(), stderr);
    return loaded.exit_code();
  }
  if (token->parsed())
    return add_token(*loaded.config, role, name);
  if (loaded.config->web.listen.empty())
    return complain(EX_CONFIG,
                    "web.listen names no address; for example: [web] listen = "
                    "[\"127.0.0.1:8025\"]");
  return serve(*loaded.config);
}
