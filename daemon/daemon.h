// The program's entry points. The command line (cli/) parses arguments and calls these; everything
// else of the daemon is behind them.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>

namespace postrider::daemon {

struct Options {
  // "-c FILE"; else $POSTRIDER_CONFIG; else /etc/postrider/postrider.toml. See config_path().
  std::string config_file;
};
std::string config_path(const Options& options);

// The daemon in the foreground until SIGTERM or SIGINT (drain; a second one hurries) or until
// start-up found problems: those are all printed at once on standard error and the result is 78
// (EX_CONFIG) or 71 (EX_OSERR). Never half-starts. Call from the main thread, before other threads.
int run(const Options& options);

struct Report {
  int exit_code = 0;  // sysexits.h
  std::string text;   // complete lines
};
// `postrider check`: every problem, one a line, and exit code 78; or one line and 0.
Report check(const Options& options);
// `postrider config`: the effective configuration, each value with its origin.
Report print_config(const Options& options);

// `newaliases`: checks every table of aliases, and writes anew those that are compiled (cdb:). One
// line a table. 0; 65 for a wrong line, 66 for a file that cannot be read, 73 for one that cannot
// be written, 78 for a wrong configuration.
Report rebuild_aliases(const Options& options);

// What the tools need to find the daemon and its queue.
struct Places {
  std::string spool;
  std::string control_socket;
  std::string submit_socket;
  std::string hostname;
  std::string origin;  // the domain of addresses without one
  std::string user;
  std::uint64_t message_size = 0;  // accept.message_size
  std::size_t recipients = 0;      // accept.recipients
};
// Fails with one line a problem. A missing default file means the defaults.
Result<Places> find_places(const Options& options);

}  // namespace postrider::daemon
