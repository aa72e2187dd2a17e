#include "daemon/privsep/confinement.h"

#include "base/text.h"
#include "daemon/config/values.h"

#include <algorithm>

namespace postrider::daemon {

namespace {

// What the C library, its name services and OpenSSL read. /etc holds secrets too; they are kept
// from us by their modes, for we are not root.
constexpr const char* kSystem[] = {
    "/etc",         "/usr",      "/lib",         "/lib64",
    "/run",         "/proc",     "/var/lib/sss", "/sys/devices/system/cpu",
    "/dev/urandom", "/dev/null", "/dev/random"};
// Too much lies below these: only the file that is named, not its folder.
constexpr std::string_view kWide[] = {
    "",     "/",    "/home",    "/root", "/var",      "/tmp",       "/var/tmp", "/mnt",
    "/srv", "/opt", "/var/log", "/run",  "/var/mail", "/var/spool", "/var/lib"};
// Not read by us: the parent's, or written below.
constexpr std::string_view kNotRead[] = {"local.mailbox",  "spool",          "log.target",
                                         "control.socket", "control.submit", "listener.address",
                                         "events.file",    "events.password"};

std::string folder_of(std::string_view path) {
  return std::string(path.substr(0, std::max<std::size_t>(path.rfind('/'), 1)));
}

bool is_wide(const std::string& folder) {
  return std::find(std::begin(kWide), std::end(kWide), folder) != std::end(kWide);
}

void add_reading(SandboxPaths& paths, const std::string& file) {
  const auto folder = folder_of(file);
  paths.read.push_back(is_wide(folder) ? file : folder);
}

// What the file of a table names in turn. before: what stands before its path.
std::vector<std::string> files_of_table(std::string_view before, std::string_view path) {
  for (const std::string_view kind : {"pgsql:", "ldap:"})
    if (before.ends_with(kind))
      return further_files_of_table(std::string(kind).append(path));
  return {};
}

// Absolute paths in a value as it stands in TOML: behind a quote, or behind "kind:".
std::vector<std::string> paths_in(std::string_view value) {
  std::vector<std::string> paths;
  for (std::size_t at = 1; at < value.size(); ++at) {
    if (value[at] != '/' || (value[at - 1] != '"' && value[at - 1] != ':'))
      continue;
    const auto path = value.substr(at, value.find_first_of("\" {?", at) - at);
    if (path.size() > 1 && path[1] != '/')
      paths.emplace_back(path);
    for (auto& further : files_of_table(value.substr(0, at), path))
      paths.push_back(std::move(further));
    at += path.size();
  }
  return paths;
}

}  // namespace

std::vector<NamedPath> named_paths(const Config& config) {
  std::vector<NamedPath> named;
  for (const auto& option : options()) {
    if (std::find(std::begin(kNotRead), std::end(kNotRead), option.key) != std::end(kNotRead))
      continue;
    const auto count = find_section(section_of(option))->count(config);
    for (std::size_t index = 0; index < count; ++index)
      for (auto& path : paths_in(value_text(option, config, index)))
        named.push_back({&option, index, std::move(path)});
  }
  return named;
}

SandboxPaths sandbox_paths(const Config& config, const std::string& config_file) {
  SandboxPaths paths;
  paths.read.assign(std::begin(kSystem), std::end(kSystem));
  add_reading(paths, config_file);
  for (const auto& one : named_paths(config))
    add_reading(paths, one.path);
  paths.read.insert(paths.read.end(), config.sandbox.read.begin(), config.sandbox.read.end());
  paths.write = {config.spool, folder_of(config.control.socket), "/dev/null"};
  if (!config.control.submit.empty())
    paths.write.push_back(folder_of(config.control.submit));
  if (config.log.target.starts_with('/')) {
    const auto folder = folder_of(config.log.target);
    (is_wide(folder) ? paths.append : paths.write).push_back(folder);
  }
  for (const auto& sink : config.events)
    if (!sink.file.empty()) {
      const auto folder = folder_of(sink.file);
      (is_wide(folder) ? paths.append : paths.write).push_back(folder);
    }
  constexpr std::string_view kUnix = "unix:";
  for (const auto& listener : config.listeners)
    if (listener.address.starts_with(kUnix))
      paths.write.push_back(folder_of(std::string_view(listener.address).substr(kUnix.size())));
  return paths;
}

std::vector<std::string> out_of_reach(const SandboxPaths& sandbox, const SandboxPaths& wanted) {
  const auto holds = [](const std::vector<std::string>& folders, const std::string& path) {
    return std::any_of(folders.begin(), folders.end(), [&](const std::string& folder) {
      return path == folder || path.starts_with(folder + "/");
    });
  };
  std::vector<std::string> missing;
  for (const auto& path : wanted.read)
    if (!holds(sandbox.read, path) && !holds(sandbox.write, path))
      missing.push_back(path);
  for (const auto& path : wanted.write)
    if (!holds(sandbox.write, path))
      missing.push_back(path);
  for (const auto& path : wanted.append)
    if (!holds(sandbox.write, path) && !holds(sandbox.append, path))
      missing.push_back(path);
  return missing;
}

}  // namespace postrider::daemon
