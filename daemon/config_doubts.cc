#include "daemon/config_doubts.h"

#include "base/quoted.h"
#include "base/text.h"
#include "daemon/privsep/privileges.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <sys/stat.h>
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

constexpr const char* kUnit = "postrider.service";

// What the unit of this machine lets the daemon write.
class UnitFolders {
 public:
  explicit UnitFolders(const std::vector<std::string>& units) {
    for (const auto& folder : units)
      if (std::error_code ignored; !is_there_ && fs::is_regular_file(folder + "/" + kUnit, ignored))
        is_there_ = read(folder + "/" + kUnit);
    for (const auto& folder : units) {
      std::error_code ended;
      for (fs::directory_iterator at(folder + "/" + kUnit + ".d", ended), end; !ended && at != end;
           at.increment(ended))
        if (at->path().extension() == ".conf")
          read(at->path());
    }
  }

  // Always, where there is no unit.
  bool may_write(const std::string& path) const {
    return !is_there_ || std::any_of(folders_.begin(), folders_.end(), [&](const auto& folder) {
      return path == folder || is_below(path, folder);
    });
  }

 private:
  bool read(const fs::path& file) {
    std::ifstream lines(file);
    std::string line;
    for (std::size_t left = kMostLines; left > 0 && std::getline(lines, line); --left)
      if (const std::string_view key = "ReadWritePaths="; line.starts_with(key))
        for (auto word : split(std::string_view(line).substr(key.size()), ' ')) {
          while (word.starts_with('-') || word.starts_with('+'))
            word.remove_prefix(1);
          if (word.starts_with('/'))
            folders_.emplace_back(word);
        }
    return true;
  }

  static constexpr std::size_t kMostLines = 1000;
  bool is_there_ = false;
  // Those that systemd makes for it, by StateDirectory, RuntimeDirectory and PrivateTmp.
  std::vector<std::string> folders_ = {"/var/spool/postrider", "/run/postrider", "/tmp",
                                       "/var/tmp"};
};

class MachineDoubts {
 public:
  MachineDoubts(const Config& config, const std::vector<std::string>& units)
      : config_(config), unit_(units) {}

  void user() {
    if (config_.user.empty())
      return;
    const auto account = find_account(config_.user);
    if (!account)  // who looks at a configuration may be about to make it
      add("user",
          quote_value(config_.user) + " is not a user of this machine: a start as root will fail");
    else if (account->uid == 0)
      add("user", quote_value(config_.user) +
                      " has every right, and so would a fault of the daemon: make a user for it");
  }

  void spool() {
    const auto parent = fs::path(config_.spool).parent_path();
    if (!is_folder(parent))
      add("spool",
          "lies in " + escaped(parent.string()) + ", which is not there: make that folder first");
    else
      by_unit("spool", config_.spool);
  }

  // Where the daemon makes files of its own beside the spool and the log.
  void others() {
    by_unit("control.socket", config_.control.socket);
    by_unit("control.submit", config_.control.submit);
    for (std::size_t i = 0; i < config_.events.size(); ++i)
      by_unit("events[" + std::to_string(i) + "].file", config_.events[i].file);
    const auto& mailbox = config_.local.mailbox;
    if (mailbox.starts_with("maildir:") || mailbox.starts_with("mbox:"))
      by_unit("local.mailbox", mailbox.substr(mailbox.find(':') + 1));
  }

  void log() {
    const auto& target = config_.log.target;
    if (!target.starts_with('/'))
      return;
    const auto folder = fs::path(target).parent_path();
    if (!is_folder(folder))
      return add("log.target", "lies in " + escaped(folder.string()) +
                                   ", which is not there: make it, unless the daemon's user may");
    by_unit("log.target", target, "use /var/log/postrider, or ");
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
  void by_unit(std::string key, const std::string& path, const std::string& instead = {}) {
    if (path.starts_with('/') && !unit_.may_write(path))
      add(std::move(key), "lies in a folder that postrider.service may not write; " + instead +
                              "add the folder to ReadWritePaths with systemctl edit");
  }

  void add(std::string key, std::string text) {
    found.push_back({0, std::move(key), std::move(text)});
  }

  const Config& config_;
  const UnitFolders unit_;
  std::vector<std::string> other_names;
};

}  // namespace

std::vector<Problem> doubts_about_machine(const Config& config, const Certificates& certificates,
                                          const std::vector<std::string>& units) {
  MachineDoubts doubts(config, units);
  doubts.user();
  doubts.spool();
  doubts.log();
  doubts.others();
  doubts.keys(certificates);
  return std::move(doubts.found);
}

}  // namespace postrider::daemon
