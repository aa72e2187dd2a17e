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

// `postrider dkim check`: one line for each key that signs, of this domain or of all if it is
// empty, with what is wrong with its record in the DNS. 0: nothing; 65: a record is missing, or
// another one; 75: the DNS gave no answer; 66: no key; 78: a wrong configuration or key. Asks the
// DNS.
Report check_dkim_records(const Options& options, const std::string& domain);

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
Result<Places> find_places(const Options& options);
// The same for a program that has mail in its hands: it fails only for a file that was named in
// `options` and does not exist. At worst the defaults hold, without limits that only the daemon
// knows.
Result<Places> find_places_for_mail(const Options& options);

}  // namespace postrider::daemon
