#include "daemon/daemon.h"

#include "base/file.h"
#include "daemon/addresses.h"
#include "daemon/certificates.h"
#include "daemon/config_checks.h"
#include "daemon/config_file.h"
#include "daemon/effective.h"
#include "daemon/outbound.h"
#include "daemon/privileges.h"
#include "daemon/running.h"
#include "daemon/settings.h"
#include "daemon/signing_keys.h"
#include "daemon/srs_keys.h"

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

constexpr const char* kDefaultFile = "/etc/postrider/postrider.toml";

// A user that does not exist is told with the other problems, by prepare().
Result<std::shared_ptr<ParentClient>> start_parent(const Loaded& loaded) {
  const auto& config = *loaded.config;
  auto rules = parent_rules(config, loaded.file);
  rules.open_book = open_address_book_now;
  const auto account = geteuid() == 0 && !config.user.empty()
                           ? find_account(config.user)
                           : Result<Account>(Error(Errc::not_found, "act as another user"));
  auto link = fork_parent(std::move(rules), account ? &*account : nullptr);
  if (!link)
    return link.error();
  return std::make_shared<ParentClient>(std::move(*link));
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
  if (const auto rules = local_rules(*loaded.config); !rules)
    problems.push_back({"sendmail.unlimited", rules.error().step()});
  std::string warnings;
  for (const auto& one : warnings_about(*loaded.config))
    warnings += "warning: " + one.key + ": " + one.text + "\n";
  for (const auto& problem : problems) {
    if (problem.is_warning) {
      warnings += "warning: " + problem.option + ": " + problem.text + "\n";
      continue;
    }
    const auto origin = loaded.origins.find(problem.option);
    loaded.problems.push_back(
        {origin == loaded.origins.end() ? 0 : origin->second, problem.option, problem.text});
  }
  auto found = load_certificates(*loaded.config, loaded.origins, SystemClock().now());
  std::move(found.problems.begin(), found.problems.end(), std::back_inserter(loaded.problems));
  auto keys = load_signing_keys(*loaded.config, loaded.origins);
  std::move(keys.problems.begin(), keys.problems.end(), std::back_inserter(loaded.problems));
  for (const auto& one : keys.warnings)
    warnings += "warning: dkim: " + one + "\n";
  auto logins = check_credentials(*loaded.config, loaded.origins);
  std::move(logins.begin(), logins.end(), std::back_inserter(loaded.problems));
  for (auto& problem : check_srs_keys(*loaded.config, loaded.origins))
    loaded.problems.push_back(std::move(problem));
  if (!loaded.problems.empty())
    return {EX_CONFIG, loaded.describe() + warnings};
  return {EX_OK, warnings + loaded.file + ": no problems\n"};
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

namespace {

std::string folder_of(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

Places default_places() {
  return places_of(*parse_config("", kDefaultFile, this_machine()).config);
}

// Whose word on a daemon counts beside root's: that of its user, and our own.
std::vector<uid_t> daemon_users(const std::string& user) {
  std::vector<uid_t> users{::geteuid()};
  const auto account =
      user.empty() ? Result<Account>(Error(Errc::not_found, "")) : find_account(user);
  if (account)
    users.push_back(account->uid);
  return users;
}

// What a daemon that runs with this file left in one of the folders; rather than one that ran. Who
// root becomes is `user`, whatever a file says that is not root's.
std::optional<Effective> find_effective(const std::string& config, const std::string& user,
                                        std::initializer_list<std::string> folders) {
  std::error_code ignored;
  const auto wanted = std::filesystem::absolute(config, ignored).string();
  const auto users = daemon_users(user);
  std::optional<Effective> ran;
  for (const auto& folder : folders) {
    auto effective = read_effective(folder, users);
    if (!effective || effective->config != wanted)
      continue;
    if (!effective->is_roots)
      effective->places.user = user;
    if (effective->places.is_live)
      return effective;
    if (!ran)
      ran = std::move(effective);
  }
  return ran;
}

std::string usual_folder() {
  return folder_of(default_places().submit_socket);
}

// It is there, and there is nothing in it: no administrator's work.
bool is_blank(const std::string& file) {
  const auto text = read_file(file);
  return text && text->find_first_not_of(" \t\r\n") == text->npos;
}

bool is_in(const std::string& path, const std::string& folder) {
  std::error_code ignored;
  const auto normal = [&](const std::string& name) {
    return (std::filesystem::absolute(name, ignored) / "").lexically_normal();
  };
  return normal(folder_of(path)) == normal(folder);
}

// What the daemon says of itself changes nothing that could lead root's tools elsewhere: only its
// limits count, and the names of the sockets beside its word, which it keeps until a restart.
void take_from_live(const Effective& effective, Places& places) {
  const auto& live = effective.places;
  places.is_live = true;
  places.hostname = live.hostname;
  places.origin = live.origin;
  places.message_size = live.message_size;
  places.recipients = live.recipients;
  if (is_in(live.control_socket, effective.folder))
    places.control_socket = live.control_socket;
  if (is_in(live.submit_socket, effective.folder))
    places.submit_socket = live.submit_socket;
}

// The configuration is right, but perhaps no longer what it was.
Places places_with(const Loaded& right) {
  auto places = places_of(*right.config);
  const auto effective =
      find_effective(right.file, places.user,
                     {folder_of(places.submit_socket), usual_folder(), folder_of(right.file)});
  if (effective && right.origins.empty() && effective->places.spool != places.spool) {
    auto last = effective->places;
    if (!last.is_live)
      last.warning = right.file + " sets nothing; going on with what the daemon ran with last";
    return last;
  }
  const bool is_live = effective && effective->places.is_live;
  if (is_live)
    take_from_live(*effective, places);
  if (right.origins.contains("spool"))
    return places;
  if (effective && effective->places.spool != places.spool)
    places.no_drop = right.file + " names no spool any more, and the daemon " +
                     (is_live ? "runs with " + effective->places.spool
                              : "ran with " + effective->places.spool + " last");
  else if (!effective && is_blank(right.file))
    places.no_drop = right.file + " is empty";
  return places;
}

std::string first_problem(const Loaded& loaded) {
  const auto lines = loaded.describe();
  const auto more = loaded.problems.size() - 1;
  return lines.substr(0, lines.find('\n')) +
         (more > 0 ? " (and " + std::to_string(more) + " more)" : "");
}

// The configuration is no help: what else is known of its daemon.
std::optional<Places> places_without(const Loaded& broken) {
  const auto lenient = load_leniently(broken.file);
  const auto usual = usual_folder();
  const auto effective = find_effective(
      broken.file, lenient ? lenient->user : default_places().user,
      {lenient ? folder_of(lenient->control.submit) : usual, usual, folder_of(broken.file)});
  if (!effective && !lenient)
    return std::nullopt;
  auto places = effective ? effective->places : places_of(*lenient);
  places.warning = first_problem(broken) +
                   (!effective                  ? "; going on with what can be understood of it"
                    : effective->places.is_live ? "; going on with what the daemon runs with"
                                                : "; going on with what the daemon ran with last");
  return places;
}

}  // namespace

Result<Places> find_places(const Options& options) {
  const auto loaded = load_or_defaults(options);
  if (loaded.config)
    return places_with(loaded);
  if (auto places = places_without(loaded))
    return *std::move(places);
  auto lines = loaded.describe();
  lines.pop_back();
  return Error(make_error_code(Errc::malformed), std::move(lines));
}

Result<Places> find_places_for_mail(const Options& options) {
  auto found = find_places(options);
  const bool is_missing = ::access(config_path(options).c_str(), F_OK) != 0 && errno == ENOENT;
  if (found || (is_missing && !options.config_file.empty()))
    return found;
  auto places = default_places();
  auto effective = read_effective(folder_of(places.submit_socket), daemon_users(places.user));
  if (effective && !effective->is_roots)
    effective->places.user = places.user;
  if (effective)
    places = effective->places;
  else
    places.message_size = std::numeric_limits<std::uint64_t>::max();
  places.recipients = std::numeric_limits<std::size_t>::max();
  const std::string lines = found.error().step();
  places.warning = lines.substr(0, lines.find('\n')) + "; going on with the defaults";
  return places;
}

}  // namespace postrider::daemon
