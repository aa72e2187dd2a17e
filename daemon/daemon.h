// The program's entry points. The command line (cli/) parses arguments and calls these; everything
// else of the daemon is behind them.
#pragma once

#include "base/result.h"
#include "daemon/protocol/tool_paths.h"

#include <cstdint>
#include <string>

namespace postrider::daemon {

// The daemon in the foreground until SIGTERM or SIGINT (drain; a second one hurries) or until
// start-up found problems: those are all printed at once on standard error and the result is 78
// (EX_CONFIG) or 71 (EX_OSERR). Never half-starts. Call from the main thread, before other threads.
int run(const Options& options);

// `postrider check`: every problem, one a line, and exit code 78; or the warnings, one line, and 0.
// is_strict: 78 for warnings, too.
Report check(const Options& options, bool is_strict);
// `postrider config`: the effective configuration, each value with its origin.
Report print_config(const Options& options);

// `postrider dkim check`: one line for each key that signs, of this domain or of all if it is
// empty, with what is wrong with its record in the DNS. 0: nothing; 65: a record is missing, or
// another one; 75: the DNS gave no answer; 66: no key; 78: a wrong configuration or key. Asks the
// DNS.
Report check_dkim_records(const Options& options, const std::string& domain);

// `postrider doctor`: what a mail server gets wrong outside of its configuration, each with its
// remedy: names and records in the DNS, port 25, the certificate, the clock, the spool. domain:
// whose mail is sent; empty: origin. 0: no problem; 65: there is one; 75: none is known, and
// something could not be found out; 78: a wrong configuration. Asks the DNS and other servers.
Report examine(const Options& options, const std::string& domain, bool json);

// `newaliases`: checks every table of aliases, and writes those again that are compiled (cdb:). One
// line a table. 0; 65 for a wrong line, 66 for a file that cannot be read, 73 for one that cannot
// be written, 78 for a wrong configuration.
Report rebuild_aliases(const Options& options);

}  // namespace postrider::daemon
