// From the configuration to the address book: opens the tables of [local] and [rewrite].
#pragma once

#include "base/result.h"
#include "daemon/config/config.h"
#include "daemon/daemon.h"
#include "daemon/privsep/parent_checks.h"
#include "delivery/local/addresses/local_addresses.h"
#include "mail/rewrite.h"
#include "smtpd/server_settings.h"
#include "tables/watcher.h"

#include <memory>
#include <string>
#include <vector>

namespace postrider::daemon {

// A table that cannot be read is reported in the log and answers "not now" until it is mended; only
// what the configuration itself says wrongly is an error, and wrong keys for senders are.
Result<std::shared_ptr<const delivery::LocalAddresses>> open_address_book(const Config& config,
                                                                          tables::Watcher& watcher,
                                                                          const Clock& clock);

// The same for one question: the files are read when it is asked, and nothing of them is kept.
// Rewrites no sender.
Result<OpenedBook> open_address_book_now(const Config& config);
// Whether one of its tables is asked over a socket.
bool book_asks_servers(const Config& config);

// Null if nothing is rewritten. is_local: whether a domain's users stand in the tables by name.
Result<std::shared_ptr<const mail::Rewriter>> open_rewriter(
    const Config& config, tables::Watcher& watcher,
    std::shared_ptr<const delivery::LocalAddresses> book);
// What receiving and routing need of tables.
struct ReceivingTables {
  std::vector<smtpd::TablePtr> senders, recipient_map, relay_recipients;
  std::shared_ptr<const mail::Rewriter> rewriter;
  std::vector<smtpd::TablePtr> exceptions = {}, clients = {}, route_map = {}, sender_bcc = {},
                               recipient_bcc = {};
};
Result<ReceivingTables> open_receiving_tables(const Config& config, tables::Watcher& watcher,
                                              std::shared_ptr<const delivery::LocalAddresses> book);

// What is wrong with the tables now, each with its option: for `postrider check`.
struct TableProblem {
  std::string option;
  std::string text;
  bool is_warning = false;  // the daemon goes on without that line
  bool was_read = false;    // what is in it is wrong: a running daemon keeps the table as it was
};
std::vector<TableProblem> check_tables(const Config& config);

// What stands in tables of aliases and virtual users and leads nowhere: sentences with file, line
// and chain. None where tables are asked of servers. Follows every entry: takes its time.
std::vector<std::string> alias_doubts(const Config& config);

// See daemon.h.
Report rebuild_aliases(const Config& config);

}  // namespace postrider::daemon
