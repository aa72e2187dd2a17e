// How the tools find the daemon and its queue, whatever state the configuration is in.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace postrider::daemon {

struct Loaded;

struct Options {
  // "-c FILE"; else $POSTRIDER_CONFIG; else /etc/postrider/postrider.toml. See config_path().
  std::string config_file;
};
// What a command prints, and its exit code.
struct Report {
  int exit_code = 0;  // sysexits.h
  std::string text;   // complete lines
};

std::string config_path(const Options& options);

// The configuration of these options. A missing default file means the defaults.
Loaded load_or_defaults(const Options& options);

// What the tools need to find the daemon and its queue.
struct ToolPaths {
  std::string spool;
  std::string control_socket;
  std::string submit_socket;
  std::string hostname;
  std::string origin;              // the domain of addresses without one
  std::string user;                // whom root becomes to open the spool; empty: it stays root
  std::uint64_t message_size = 0;  // accept.message_size
  std::size_t recipients = 0;      // accept.recipients
  bool is_live = false;            // a daemon runs with them
  std::string warning;  // one line: these are not from a configuration that is right; or empty
  // Why nothing may be left in the drop folder of the spool: nobody knows that a daemon will read
  // it. Empty: it may.
  std::string no_drop;
};
// As the configuration has them: spool and user are never another's to name. The daemon that runs
// adds its limits, and the sockets that it keeps until a restart. A missing default
// file means the defaults. A file that sets nothing, which may be what a crash or an editor left of
// one, counts for less than what its daemon runs with, or ran with last. For a configuration that
// is broken or cannot be read: that, or what can be understood of the file. What a daemon says of
// itself is believed of root and the daemon's user only, and of root alone who that user is. Fails,
// in a line a problem, if the file was named and nothing is known of it.
Result<ToolPaths> find_places(const Options& options);
// Of the program that ends because of it: 78, or 77 for a file that it may not read.
int exit_code_without_places(const Error& error);
// The same for a program that has mail in its hands: it fails only for a file that was named in
// `options` and does not exist. At worst the defaults hold, without limits that only the daemon
// knows.
Result<ToolPaths> find_places_for_mail(const Options& options);

}  // namespace postrider::daemon
