#include "daemon/daemon.h"

#include "base/file.h"
#include "daemon/addresses.h"
#include "daemon/certificates.h"
#include "daemon/config/config_checks.h"
#include "daemon/config/config_file.h"
#include "daemon/config_doubts.h"
#include "daemon/file_problems.h"
#include "daemon/outbound.h"
#include "daemon/privsep/privileges.h"
#include "daemon/protocol/effective.h"
#include "daemon/running.h"
#include "daemon/settings.h"
#include "daemon/signing/signing_keys.h"
#include "daemon/signing/srs_keys.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <optional>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <vector>

namespace postrider::daemon {

namespace {

// A user that does not exist is reported with the other problems, by prepare().
Result<std::shared_ptr<ParentClient>> start_parent(const Loaded& loaded) {
  const auto& config = *loaded.config;
  auto rules = parent_rules(config, loaded.file);
  rules.open_book = open_address_book_now;
  rules.asks_servers = book_asks_servers;
  const auto account = geteuid() == 0 && !config.user.empty()
                           ? find_account(config.user)
                           : Result<Account>(Error(Errc::not_found, "act as another user"));
  auto link = fork_parent(std::move(rules), account ? &*account : nullptr);
  if (!link)
    return link.error();
  return std::make_shared<ParentClient>(std::move(*link));
}

int report(const StartProblems& problems) {
  for (const auto& line : problems.lines)
    std::fprintf(stderr, "%s\n", line.c_str());
  return problems.exit_code;
}

}  // namespace

int run(const Options& options) {
  umask(077);  // attacks.md I13
  auto notifier = Notifier::from_environment();
  auto sockets = take_inherited_sockets();
  auto loaded = load_settled_config(config_path(options), real_waits());
  if (!loaded.config) {
    std::fputs(loaded.describe().c_str(), stderr);
    return loaded.exit_code();
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

Report check(const Options& options, bool is_strict) {
  auto loaded = load_config(config_path(options));
  if (!loaded.config)
    return {loaded.exit_code(), loaded.describe()};
  std::string warnings;
  for (const auto& one : warnings_about(*loaded.config))
    warnings += "warning: " + one.key + ": " + one.text + "\n";
  std::vector<std::string> lines;
  loaded.problems = problems_of_files(loaded, {&lines, false, geteuid() == 0});
  for (const auto& line : lines)
    warnings += "warning: " + line + "\n";
  auto found = load_certificates(*loaded.config, loaded.origins, SystemClock().now());
  for (const auto& one : doubts_about_machine(*loaded.config, found))
    warnings += "warning: " + one.key + ": " + one.text + "\n";
  for (const auto& one : found.warnings)
    warnings += "warning: " + one.key + ": " + one.text + "\n";
  std::move(found.problems.begin(), found.problems.end(), std::back_inserter(loaded.problems));
  auto keys = load_signing_keys(*loaded.config, loaded.origins);
  std::move(keys.problems.begin(), keys.problems.end(), std::back_inserter(loaded.problems));
  for (const auto& one : keys.warnings)
    warnings += "warning: dkim: " + one + "\n";
  if (!loaded.problems.empty())
    return {EX_CONFIG, loaded.describe() + warnings};
  if (is_strict && !warnings.empty())
    return {EX_CONFIG, warnings + loaded.file + ": no problems, but warnings, and --strict\n"};
  return {EX_OK, warnings + loaded.file + ": no problems\n"};
}

Report print_config(const Options& options) {
  const auto loaded = load_config(config_path(options));
  if (!loaded.config)
    return {loaded.exit_code(), loaded.describe()};
  return {EX_OK, print_config(loaded)};
}

Report rebuild_aliases(const Options& options) {
  const auto loaded = load_or_defaults(options);
  if (!loaded.config)
    return {loaded.exit_code(), loaded.describe()};
  return rebuild_aliases(*loaded.config);
}

}  // namespace postrider::daemon
