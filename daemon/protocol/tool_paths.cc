#include "daemon/protocol/tool_paths.h"

#include "base/file.h"
#include "daemon/config/config_file.h"
#include "daemon/privsep/privileges.h"
#include "daemon/protocol/effective.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <optional>
#include <sysexits.h>
#include <unistd.h>
#include <vector>

namespace postrider::daemon {

namespace {

constexpr const char* kDefaultFile = "/etc/postrider/postrider.toml";

}  // namespace

std::string config_path(const Options& options) {
  if (!options.config_file.empty())
    return options.config_file;
  // Not of a program with the rights of another, which `sendmail` may be called by.
  const char* named = ::secure_getenv("POSTRIDER_CONFIG");
  return named != nullptr && *named != '\0' ? named : kDefaultFile;
}

Loaded load_or_defaults(const Options& options) {
  const auto path = config_path(options);
  const bool defaults = path == kDefaultFile && access(path.c_str(), F_OK) != 0;
  return defaults ? parse_config("", path, this_machine()) : load_config(path);
}

namespace {

std::string folder_of(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

ToolPaths default_places() {
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
void take_from_live(const Effective& effective, ToolPaths& places) {
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
ToolPaths places_with(const Loaded& right) {
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
std::optional<ToolPaths> places_without(const Loaded& broken) {
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

Result<ToolPaths> find_places(const Options& options) {
  const auto loaded = load_or_defaults(options);
  if (loaded.config)
    return places_with(loaded);
  if (auto places = places_without(loaded))
    return *std::move(places);
  auto lines = loaded.describe();
  lines.pop_back();
  if (loaded.is_forbidden)
    return system_error(EACCES, std::move(lines));
  return Error(make_error_code(Errc::malformed), std::move(lines));
}

int exit_code_without_places(const Error& error) {
  return error.code() == boost::system::errc::permission_denied ? EX_NOPERM : EX_CONFIG;
}

Result<ToolPaths> find_places_for_mail(const Options& options) {
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
