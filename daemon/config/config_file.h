// From the file to the Config, with every problem at once.
//
// Three stages, each of which goes on behind a problem as far as its findings still mean something:
// the file (attacks.md I15), its syntax, then keys and values against the option table together
// with the checks across keys (config_checks.h). A Config is given only if there is no problem.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "daemon/config/config.h"
#include "daemon/config/options.h"

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

inline constexpr std::size_t kMostConfig = 1U << 20U;

struct Problem {
  unsigned line = 0;   // 0: the whole file
  std::string key;     // empty: the line itself
  std::string text;    // what is wrong, what is allowed
  std::string file{};  // that the line is of; empty: the configuration itself
};

// Where values came from: "listener[0].address" -> line. What is not here is a default.
using Origins = std::map<std::string, unsigned, std::less<>>;
// The name of an option in Origins and in problems.
std::string origin_key(const Option& option, std::size_t index);

struct Loaded {
  std::string file;
  ConfigPtr config;  // null if there are problems
  Origins origins;
  std::vector<Problem> problems;  // in the order of lines
  bool ends_a_line = true;        // its text
  bool is_forbidden = false;      // we may not read it
  // Of a program that cannot go on with it: 78, or 77 for a file that it may not read.
  int exit_code() const;
  // One line a problem: "file:line: key: text".
  std::string describe() const;
};

// A file as it is now. Two that are equal, and not younger than the clock can tell apart, are of
// one text.
struct FileStamp {
  std::string text;
  Duration age{0};  // since anything about it changed; 0: just now, or the clock went back
};
FileStamp stamp_of(const std::string& path, TimePoint now);
// For how long a file has been as it is: by its age, or since it was seen so, whatever its clock.
class FileRest {
 public:
  FileRest(FileStamp seen, SteadyTime now) : seen_(std::move(seen)), since_(now) {}
  Duration look(FileStamp stamp, SteadyTime now);
  const FileStamp& seen() const { return seen_; }

 private:
  FileStamp seen_;
  SteadyTime since_;
};
// Taking it up in place of the other needs a second look: it may be half written.
bool looks_cut(const Loaded& fresh, const Loaded& running);

// What a configuration takes from the machine that it is read on.
struct Machine {
  std::string host_name;  // for a file without hostname; may be empty
  // The first line of a file, for origin.
  std::function<Result<std::string>(const std::string& path)> first_line;
};
// This machine.
Machine this_machine();

Loaded load_config(const std::string& path);

// How long the configuration must have stayed as it is, so that nobody is writing it.
inline constexpr Duration kConfigSettled{1'000};
inline constexpr Duration kConfigSettledIfCut{5'000};  // when something seems to be missing
inline constexpr Duration kLongestConfigWait{60'000};
struct ConfigWaits {
  std::function<Duration(const std::string& path)> rest;  // of a file, so far
  std::function<void(Duration)> sleep;
};
ConfigWaits real_waits();  // rest: by the file's own stamp
// When it has stayed so: at the start, where there is no other to go on with.
Loaded load_settled_config(const std::string& path, const ConfigWaits& waits);
// For who must go on: what can be understood of a text that has problems, and defaults for the
// rest.
Config parse_leniently(std::string_view text, const Machine& machine);
// The same of a file; null if it cannot be read, or is not to be trusted.
ConfigPtr load_leniently(const std::string& path);
Loaded parse_config(std::string_view text, std::string file, const Machine& machine);

// The configuration as TOML, each value with its origin in a comment.
std::string print_config(const Loaded& loaded);

// The fully qualified name of this host, as far as the kernel and /etc/hosts tell it. Asks no
// resolver: a tool must not wait for one.
std::string system_host_name();

}  // namespace postrider::daemon
