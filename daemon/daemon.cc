#include "daemon/daemon.h"

#include "daemon/addresses.h"
#include "daemon/certificates.h"
#include "daemon/config_file.h"
#include "daemon/outbound.h"
#include "daemon/running.h"
#include "daemon/settings.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr const char* kDefaultFile = "/etc/postrider/postrider.toml";

// A user that does not exist is told with the other problems, by prepare().
Result<std::shared_ptr<ParentClient>> start_parent(const Loaded& loaded) {
  const auto& config = *loaded.config;
  auto rules = parent_rules(config, loaded.file);
  const auto mailbox_root = rules.mailbox_root;
  const auto account = geteuid() == 0 && !config.user.empty()
                           ? find_account(config.user)
                           : Result<Account>(Error(Errc::not_found, "act as another user"));
  auto link = fork_parent(std::move(rules), account ? &*account : nullptr);
  if (!link)
    return link.error();
  return std::make_shared<ParentClient>(std::move(*link), mailbox_root);
}

// A missing default file means the defaults.
Loaded load_or_defaults(const Options& options) {
  const auto path = config_path(options);
  const bool defaults = path == kDefaultFile && access(path.c_str(), F_OK) != 0;
  return defaults ? parse_config("", path, this_machine()) : load_config(path);
}

int report(const StartProblems& problems) {
  for (const auto& line : problems.lines)
    std::fprintf(stderr, "%s\n", line.c_str());
  return problems.exit_code;
}

}  // namespace

std::string config_path(const Options& options) {
  if (!options.config_file.empty())
    return options.config_file;
  const char* named = std::getenv("POSTRIDER_CONFIG");
  return named != nullptr && *named != '\0' ? named : kDefaultFile;
}

int run(const Options& options) {
  umask(077);  // attacks.md I13
  auto notifier = Notifier::from_environment();
  auto sockets = take_inherited_sockets();
  auto loaded = load_config(config_path(options));
  if (!loaded.config) {
    std::fputs(loaded.describe().c_str(), stderr);
    return EX_CONFIG;
  }
  raise_file_limit();
  auto parent = start_parent(loaded);  // while there is one thread, and nothing from outside
  if (!parent) {
    std::fprintf(stderr, "postrider: %s\n", parent.error().describe().c_str());
    return EX_OSERR;
  }
  Events events;
  Running running(std::move(loaded), std::move(sockets), events, notifier, std::move(*parent));
  if (const auto problems = running.prepare(); !problems.lines.empty())
    return report(problems);
  return running.serve();
}

Report check(const Options& options) {
  auto loaded = load_config(config_path(options));
  if (!loaded.config)
    return {EX_CONFIG, loaded.describe()};
  auto problems = check_tables(*loaded.config);
  for (auto& problem : check_logins(*loaded.config))
    problems.push_back(std::move(problem));
  if (const auto rules = local_rules(loaded.config->sendmail); !rules)
    problems.push_back({"sendmail.unlimited", rules.error().step()});
  for (const auto& problem : problems) {
    const auto origin = loaded.origins.find(problem.option);
    loaded.problems.push_back(
        {origin == loaded.origins.end() ? 0 : origin->second, problem.option, problem.text});
  }
  auto found = load_certificates(*loaded.config, loaded.origins, SystemClock().now());
  std::move(found.problems.begin(), found.problems.end(), std::back_inserter(loaded.problems));
  auto logins = check_credentials(*loaded.config, loaded.origins);
  std::move(logins.begin(), logins.end(), std::back_inserter(loaded.problems));
  if (!loaded.problems.empty())
    return {EX_CONFIG, loaded.describe()};
  return {EX_OK, loaded.file + ": no problems\n"};
}

Report print_config(const Options& options) {
  const auto loaded = load_config(config_path(options));
  if (!loaded.config)
    return {EX_CONFIG, loaded.describe()};
  return {EX_OK, print_config(loaded)};
}

Report rebuild_aliases(const Options& options) {
  const auto loaded = load_or_defaults(options);
  if (!loaded.config)
    return {EX_CONFIG, loaded.describe()};
  return rebuild_aliases(*loaded.config);
}

Result<Places> find_places(const Options& options) {
  const auto loaded = load_or_defaults(options);
  if (!loaded.config)
    return Error(make_error_code(Errc::malformed), loaded.describe());
  const auto& config = *loaded.config;
  Places places;
  places.spool = config.spool;
  places.control_socket = config.control.socket;
  places.submit_socket = config.control.submit;
  places.hostname = config.hostname;
  places.origin = config.origin;
  places.user = config.user;
  places.message_size = config.accept.message_size;
  places.recipients = config.accept.recipients;
  return places;
}

}  // namespace postrider::daemon
