#include "daemon/privsep/command_groups.h"

#include "base/file.h"
#include "base/text.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostText = 64U << 10U;
constexpr const char* kControllers[] = {"pids", "memory", "cpu"};
constexpr const char* kWeight = "50";  // of 100 that the daemon has

Result<void> put(const std::string& file, const std::string& text) {
  const auto opened = open_file(file, O_WRONLY);
  if (!opened)
    return opened.error();
  return write_all(*opened, text);
}

Result<std::string> first_line(const std::string& file) {
  auto text = read_file(file, kMostText);
  if (text)
    text->resize(std::min(text->find('\n'), text->size()));
  return text;
}

// Octets, or a count; nothing for "max", or where there is no such limit.
std::optional<std::uint64_t> limit_in(const std::string& file) {
  const auto text = first_line(file);
  return text ? parse_unsigned(*text) : std::nullopt;
}

bool has_word(const std::string& file, std::string_view word) {
  const auto text = first_line(file);
  if (!text)
    return false;
  const auto words = split(*text, ' ');
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Where all groups of version 2 are, as /proc/self/mountinfo says:
// 36 35 98:0 / /sys/fs/cgroup rw,... - cgroup2 cgroup2 rw
std::string mounted_at() {
  const auto text = read_file("/proc/self/mountinfo", 4U << 20U);
  if (!text)
    return {};
  for (const auto line : split(*text, '\n')) {
    const auto words = split(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() > 6 && words[3] == "/" && words.end() - dash > 1 && dash[1] == "cgroup2")
      return std::string(words[4]);
  }
  return {};
}

// This process's, "/system.slice/postrider.service".
std::string own_group() {
  const auto text = read_file("/proc/self/cgroup", kMostText);
  if (!text)
    return {};
  for (const auto line : split(*text, '\n'))
    if (line.starts_with("0::/"))
      return std::string(line.substr(3));
  return {};
}

// Whatever our umask: the command's user reads there why it was ended.
Result<void> make_folder_for_all(const std::string& folder) {
  const bool exists = ::mkdir(folder.c_str(), 0755) == 0 || errno == EEXIST;
  if (!exists || ::chmod(folder.c_str(), 0755) != 0)
    return system_error("make control group " + folder);
  return {};
}

Result<void> make_group(const std::string& folder, uid_t own, gid_t group) {
  if (auto made = make_folder_for_all(folder); !made)
    return made;
  if (::geteuid() == own)
    return {};
  for (const auto* name : {"", "/cgroup.procs", "/cgroup.subtree_control"})
    if (::chown((folder + name).c_str(), own, group) != 0)
      return system_error("give away control group " + folder);
  return {};
}

// Those that there are; a group without one lacks its limits, not its use.
void hand_down_controllers(const std::string& folder) {
  for (const std::string name : kControllers)
    if (has_word(folder + "/cgroup.controllers", name))
      (void)put(folder + "/cgroup.subtree_control", "+" + name);
}

// So that the daemon has the other half.
void limit_all_commands(const std::string& commands, const std::string& ours) {
  const auto pages = static_cast<std::uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES)));
  auto memory = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (const auto most = limit_in(ours + "/memory.max"))
    memory = std::min(memory, *most);
  if (memory > 0)
    (void)put(commands + "/memory.max", std::to_string(memory / 2));
  if (const auto tasks = limit_in(ours + "/pids.max"))
    (void)put(commands + "/pids.max", std::to_string(std::max<std::uint64_t>(*tasks / 2, 1)));
  (void)put(commands + "/cpu.weight", kWeight);
}

}  // namespace

std::string CommandGroups::own_folder(uid_t own) {
  const auto root = mounted_at();
  const auto group = own_group();
  if (root.empty() || group.size() < 2 || own == 0)
    return {};
  auto folder = root + group;
  struct stat about {};
  const bool is_ours = ::stat(folder.c_str(), &about) == 0 && about.st_uid == own &&
                       ::access((folder + "/cgroup.procs").c_str(), W_OK) == 0;
  return is_ours ? folder : std::string();
}

Result<CommandGroups> CommandGroups::divide(const std::string& folder, uid_t own, gid_t group) {
  const auto daemon = folder + "/daemon", commands = folder + "/commands";
  for (const auto& one : {daemon, commands})
    if (auto made = make_group(one, own, group); !made)
      return made.error();
  if (auto moved = put(daemon + "/cgroup.procs", "0"); !moved)
    return moved.error();
  hand_down_controllers(folder);
  hand_down_controllers(commands);
  limit_all_commands(commands, folder);
  CommandGroups groups;
  groups.folder_ = commands;
  return groups;
}

Result<delivery::CommandGroup> CommandGroups::make(const std::string& name,
                                                   const delivery::TargetLimits& limits) const {
  delivery::CommandGroup group;
  group.folder = folder_ + "/" + name;
  if (auto made = make_folder_for_all(group.folder); !made)
    return made.error();
  auto processes = open_file(group.folder + "/cgroup.procs", O_WRONLY);
  if (!processes)
    return processes.error();
  group.processes = std::move(*processes);
  if (auto kill = open_file(group.folder + "/cgroup.kill", O_WRONLY))
    group.kill = std::move(*kill);
  if (limits.processes > 0)
    group.holds_tasks =
        put(group.folder + "/pids.max", std::to_string(limits.processes)).has_value();
  if (limits.memory > 0) {
    const auto most = std::to_string(limits.memory);
    (void)put(group.folder + "/memory.max", most);
    (void)put(group.folder + "/memory.swap.max", most);
    (void)put(group.folder + "/memory.oom.group", "1");  // half a command is of no use
  }
  return group;
}

bool CommandGroups::end(const std::string& name) const {
  const auto folder = folder_ + "/" + name;
  if (::rmdir(folder.c_str()) == 0 || errno == ENOENT)
    return true;
  (void)put(folder + "/cgroup.kill", "1");
  return ::rmdir(folder.c_str()) == 0;
}

}  // namespace postrider::daemon
