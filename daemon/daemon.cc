#include "daemon/daemon.h"

#include "base/file.h"
#include "base/text.h"
#include "daemon/addresses.h"
#include "daemon/certificates.h"
#include "daemon/config/config_checks.h"
#include "daemon/config/config_file.h"
#include "daemon/config/secret_values.h"
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
#include <fcntl.h>
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

namespace {

// What is wrong with a configuration and what it names, in the order in which a start meets it, and
// with the rights that it has there: certificates are read as root, all else as the daemon's user.
class Checkup {
 public:
  explicit Checkup(Loaded& loaded) : loaded_(loaded) {}

  void run() {
    add_warnings(warnings_about(config()));
    const auto account = geteuid() == 0 && !config().user.empty()
                             ? find_account(config().user)
                             : Result<Account>(Error(Errc::not_found, "act as another user"));
    const auto now = SystemClock().now();
    auto certificates = load_certificates(config(), loaded_.origins, now);
    add_warnings(doubts_about_machine(config(), certificates));
    add_warnings(certificates.warnings);
    const bool are_right = certificates.problems.empty();
    add_problems(std::move(certificates.problems));
    auto acting = account ? std::optional(ActingAs::become(*account)) : std::nullopt;
    if (acting && !*acting)
      add_problems({{0, "user", acting->error().describe()}});
    if (acting && *acting && account->uid != 0)
      look_again(*account, now, are_right);
    look_as_user();
  }

  std::string warnings;

 private:
  const Config& config() const { return *loaded_.config; }

  void add_warnings(const std::vector<Problem>& found) {
    for (const auto& one : found)
      warnings += "warning: " + one.key + ": " + one.text + "\n";
  }
  void add_problems(std::vector<Problem> found) {
    std::move(found.begin(), found.end(), std::back_inserter(loaded_.problems));
  }

  // What the start reads as root and a reload does not.
  void look_again(const Account& account, TimePoint now, bool are_right) {
    if (auto file = open_file(loaded_.file, O_RDONLY); !file)
      add_problems({{0, "",
                     "cannot be read by user " + escaped(account.name) +
                         ", as whom a reload does: " + file.error().code().message() +
                         "; expected rights for that user's group, on the file and its folder"}});
    if (!are_right)
      return;
    for (const auto& problem : load_certificates(config(), loaded_.origins, now).problems)
      warnings += "warning: " + problem.key + ": user " + escaped(account.name) +
                  " takes up no renewed one before a restart: " + problem.text + "\n";
  }

  void look_as_user() {
    std::vector<std::string> lines;
    add_problems(problems_of_files(loaded_, {&lines, false, false}));
    for (const auto& line : lines)
      warnings += "warning: " + line + "\n";
    auto keys = load_signing_keys(config(), loaded_.origins);
    add_problems(std::move(keys.problems));
    for (const auto& one : keys.warnings)
      warnings += "warning: dkim: " + one + "\n";
  }

  Loaded& loaded_;
};

}  // namespace

Report check(const Options& options, bool is_strict) {
  auto loaded = load_config(config_path(options));
  if (!loaded.config)
    return {loaded.exit_code(), loaded.describe()};
  Checkup checkup(loaded);
  checkup.run();
  const auto warnings = without_secret_values(std::move(checkup.warnings), *loaded.config);
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
