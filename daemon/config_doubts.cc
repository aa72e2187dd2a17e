#include "daemon/config_doubts.h"

#include "base/text.h"
#include "daemon/privsep/privileges.h"

#include <algorithm>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace postrider::daemon {

namespace {

namespace fs = std::filesystem;

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_below(const std::string& path, const std::string& folder) {
  return path.starts_with(folder + "/");
}

// "*.example.org" stands for one label.
bool covers(const std::string& pattern, const std::string& name) {
  if (equals_ignoring_case(pattern, name))
    return true;
  const auto dot = name.find('.');
  return pattern.starts_with("*.") && dot != std::string::npos &&
         equals_ignoring_case(pattern.substr(1), name.substr(dot));
}

class MachineDoubts {
 public:
  explicit MachineDoubts(const Config& config) : config_(config) {}

  void user() {
    if (config_.user.empty())
      return;
    const auto account = find_account(config_.user);
    if (!account && ::geteuid() != 0)  // else it is a problem: file_problems.h
      add("user", "\"" + escaped(config_.user) +
                      "\" is not a user of this machine: a start as root will fail");
    else if (account && account->uid == 0)
      add("user", "\"" + escaped(config_.user) +
                      "\" has every right, and so would a fault of the daemon: make a user for it");
  }

  void spool() {
    const auto parent = fs::path(config_.spool).parent_path();
    if (!is_folder(parent))
      add("spool",
          "lies in " + escaped(parent.string()) + ", which is not there: make that folder first");
  }

  void log() {
    const auto& target = config_.log.target;
    if (!target.starts_with('/'))
      return;
    const auto folder = fs::path(target).parent_path();
    if (!is_folder(folder))
      return add("log.target", "lies in " + escaped(folder.string()) +
                                   ", which is not there: make it, unless the daemon's user may");
    // What the unit lets the daemon write.
    const bool is_writable = is_below(target, "/var/log/postrider") ||
                             is_below(target, config_.spool) ||
                             is_below(target, "/run/postrider") || is_below(target, "/var/mail");
    if (has_unit() && !is_writable && !is_below(target, "/tmp") && !is_below(target, "/var/tmp"))
      add("log.target",
          "lies in a folder that postrider.service may not write; use "
          "/var/log/postrider, or add the folder to ReadWritePaths with systemctl edit");
  }

  void keys(const Certificates& certificates) {
    for (const auto& key : config_.tls.key) {
      if (is_below(key, "/root"))
        add("tls.key", escaped(key) + " lies below /root, which postrider.service hides");
      struct stat file {};
      if (stat(key.c_str(), &file) == 0 && (file.st_mode & S_IROTH) != 0)
        add("tls.key", escaped(key) + " can be read by everybody on this machine: chmod o-r it");
    }
    for (const auto& identity : certificates.identities)
      if (const auto& names = identity->names();
          std::none_of(names.begin(), names.end(),
                       [&](const auto& name) { return covers(name, config_.hostname); }))
        other_names.push_back(names.empty() ? "no name" : names.front());
    if (!other_names.empty() && other_names.size() == certificates.identities.size())
      add("tls.certificate", "is for " + escaped(other_names.front()) +
                                 " and not for the hostname " + escaped(config_.hostname) +
                                 ": who verifies us will refuse it");
  }

  std::vector<Problem> found;

 private:
  static bool has_unit() {
    std::error_code ignored;
    return fs::exists("/lib/systemd/system/postrider.service", ignored) ||
           fs::exists("/etc/systemd/system/postrider.service", ignored);
  }

  void add(std::string key, std::string text) {
    found.push_back({0, std::move(key), std::move(text)});
  }

  const Config& config_;
  std::vector<std::string> other_names;
};

}  // namespace

std::vector<Problem> doubts_about_machine(const Config& config, const Certificates& certificates) {
  MachineDoubts doubts(config);
  doubts.user();
  doubts.spool();
  doubts.log();
  doubts.keys(certificates);
  return std::move(doubts.found);
}

}  // namespace postrider::daemon
