#include "daemon/config/config_file.h"

#include "base/expected.h"
#include "base/file.h"
#include "base/file_at_rest.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "daemon/config/secret_values.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <sys/stat.h>
#include <sysexits.h>
#include <thread>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostName = 256;

// attacks.md I15: whoever can write this file can make root run as anybody and read any file.
std::string distrust(const struct stat& status) {
  if (!S_ISREG(status.st_mode))
    return but_expected("is not a regular file", "a regular file");
  if (static_cast<std::size_t>(status.st_size) > kMostConfig)
    return but_expected("has " + std::to_string(status.st_size) + " bytes",
                        "at most " + format_size(kMostConfig));
  if (geteuid() != 0)
    return {};
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return but_expected("can be written by its group or by everyone", "mode 0644 or less");
  if (status.st_uid != 0)
    return but_expected("belongs to user " + std::to_string(status.st_uid), "a file of root");
  return {};
}

Result<std::string> read_up_to(const FileDescriptor& file, std::size_t most) {
  std::string text;
  std::array<char, 16384> room{};
  while (text.size() <= most) {
    const auto got = ::read(file.get(), room.data(), room.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read");
    if (got == 0)
      return text;
    text.append(room.data(), static_cast<std::size_t>(got));
  }
  return Error(make_error_code(Errc::too_long), "read");
}

// The name with a dot on the line of /etc/hosts that has the short one: "127.0.1.1 mx.a.org mx".
std::string full_name(std::string_view hosts, std::string_view name) {
  for (const auto row : split(hosts, '\n')) {
    std::string words(row.substr(0, row.find('#')));
    std::replace(words.begin(), words.end(), '\t', ' ');
    std::string full;
    bool has_name = false;
    for (const auto word : split(words, ' ')) {
      has_name = has_name || equals_ignoring_case(word, name);
      if (full.empty() && word.size() > name.size() && word[name.size()] == '.' &&
          starts_with_ignoring_case(word, name))
        full = ascii_lower(word);
    }
    if (has_name && !full.empty())
      return full;
  }
  return {};
}

// The text of a file that can be trusted, or what is wrong with it.
struct FileText {
  std::string text;
  std::string problem;
  bool is_forbidden = false;
};

FileText read_config(const std::string& path) {
  // Neither a FIFO nor a device may hold us up.
  auto file = open_to_read(path);
  if (!file && file.error().code() == boost::system::errc::no_such_file_or_directory)
    return {"", "cannot be read: " + file.error().code().message() +
                    "; name another with -c (sendmail: -C)"};
  if (!file && file.error().code() == boost::system::errc::permission_denied)
    return {"",
            "cannot be read: " + file.error().code().message() +
                "; run this as root, or make it readable (mode 0644, its folders 0755)",
            true};
  if (!file)
    return {"", "cannot be read: " + why_unopened(file.error())};
  struct stat status {};
  if (fstat(file->get(), &status) != 0)
    return {"", "cannot be read: " + std::string(std::strerror(errno))};
  if (auto problem = distrust(status); !problem.empty())
    return {"", std::move(problem)};
  auto text = read_up_to(*file, kMostConfig);
  if (!text)
    return {"", "cannot be read: " + text.error().code().message()};
  return {std::move(*text), ""};
}

Result<std::string> first_line(const std::string& path) {
  auto file = open_to_read(path);
  if (!file)
    return file.error();
  auto text = read_up_to(*file, kMostConfig);
  if (!text)
    return text.error();
  return std::string(trim(std::string_view(*text).substr(0, text->find_first_of("\r\n"))));
}

}  // namespace

std::string origin_key(const Option& option, std::size_t index) {
  const auto* section = find_section(section_of(option));
  if (section == nullptr || !section->repeats)
    return option.key;
  return std::string(section->name) + "[" + std::to_string(index) + "]." +
         std::string(name_in_section(option));
}

int Loaded::exit_code() const {
  return is_forbidden ? EX_NOPERM : EX_CONFIG;
}

std::string Loaded::describe() const {
  std::string out;
  for (const auto& problem : problems) {
    out.append(problem.file.empty() ? file : problem.file).append(":");
    if (problem.line > 0)
      out.append(std::to_string(problem.line)).append(":");
    out.append(" ");
    if (!problem.key.empty())
      out.append(problem.key).append(": ");
    out.append(problem.text).append("\n");
  }
  return config ? without_secret_values(std::move(out), *config) : out;
}

Loaded load_config(const std::string& path) {
  auto [text, problem, is_forbidden] = read_config(path);
  if (problem.empty()) {
    auto loaded = parse_config(text, path, this_machine());
    loaded.ends_a_line = text.empty() || text.back() == '\n';
    return loaded;
  }
  Loaded loaded;
  loaded.file = path;
  loaded.is_forbidden = is_forbidden;
  loaded.problems.push_back({0, "", std::move(problem)});
  return loaded;
}

ConfigWaits real_waits() {
  ConfigWaits waits;
  waits.rest = [](const std::string& path) {
    struct stat about {};
    return look_at(path, about) ? time_at_rest(about) : kLongAtRest;
  };
  waits.sleep = [](Duration wait) { std::this_thread::sleep_for(wait); };
  return waits;
}

Loaded load_settled_config(const std::string& path, const ConfigWaits& waits) {
  for (Duration waited(0);;) {
    // Before the rest is asked: what is written behind that question changes the stamp.
    const auto before = stamp_of(path, TimePoint()).text;
    const auto rest = waits.rest(path);
    auto loaded = load_config(path);
    const bool is_doubtful = !loaded.ends_a_line || (loaded.config && loaded.origins.empty());
    const auto needed = is_doubtful ? kConfigSettledIfCut : kConfigSettled;
    const bool is_changed = stamp_of(path, TimePoint()).text != before;
    if (rest >= needed && !is_changed)
      return loaded;
    if (waited >= kLongestConfigWait) {
      loaded.config.reset();
      loaded.problems.push_back({0, "", "is being written all the time"});
      return loaded;
    }
    const auto wait = is_changed ? kConfigSettled : std::min(kConfigSettled, needed - rest);
    waits.sleep(wait);
    waited += wait;
  }
}

FileStamp stamp_of(const std::string& path, TimePoint now) {
  struct stat about {};
  if (!look_at(path, about))
    return {std::strerror(errno), Duration::max()};
  const auto number = [](auto value) { return std::to_string(value) + " "; };
  const auto& m = about.st_mtim;
  const auto& c = about.st_ctim;
  FileStamp stamp;
  stamp.text = number(about.st_ino) + number(about.st_size) + number(m.tv_sec) + number(m.tv_nsec) +
               number(c.tv_sec) + number(c.tv_nsec);
  const auto changed = Duration(c.tv_sec * 1000 + c.tv_nsec / 1'000'000);
  stamp.age =
      std::max(Duration(0), std::chrono::duration_cast<Duration>(now.time_since_epoch()) - changed);
  return stamp;
}

Duration FileRest::look(FileStamp stamp, SteadyTime now) {
  if (stamp.text != seen_.text)
    since_ = now;
  seen_ = std::move(stamp);
  return std::max(seen_.age, std::chrono::duration_cast<Duration>(now - since_));
}

bool looks_cut(const Loaded& fresh, const Loaded& running) {
  if (!fresh.config || !running.config)
    return false;
  return (running.ends_a_line && !fresh.ends_a_line) ||
         (fresh.config->routes.empty() && !running.config->routes.empty()) ||
         (fresh.config->listeners.empty() && !running.config->listeners.empty());
}

ConfigPtr load_leniently(const std::string& path) {
  const auto [text, problem, is_forbidden] = read_config(path);
  return problem.empty() ? std::make_shared<const Config>(parse_leniently(text, this_machine()))
                         : nullptr;
}

Machine this_machine() {
  return {system_host_name(), first_line};
}

std::string system_host_name() {
  std::array<char, kMostName> room{};
  if (gethostname(room.data(), room.size() - 1) != 0)
    return {};
  const std::string name = ascii_lower(room.data());
  if (name.find('.') != std::string::npos)
    return name;
  const auto hosts = read_file("/etc/hosts", kMostConfig);
  const auto full = hosts ? full_name(*hosts, name) : std::string();
  return full.empty() ? name : full;
}

}  // namespace postrider::daemon
