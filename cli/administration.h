// The commands that ask the daemon, or the queue itself when it is down. Each prints as the answer
// comes and gives an exit code.
#pragma once

#include "daemon/daemon.h"
#include "daemon/protocol/control_client.h"
#include "daemon/protocol/control_protocol.h"
#include "daemon/protocol/tool_paths.h"

#include <optional>
#include <string>

namespace postrider::cli {

struct Administration {
  std::string program;  // for complaints: "postrider queue"
  daemon::Options options;
  bool json = false;
  bool prometheus = false;  // status alone
  bool is_check = false;    // status alone: its exit status says how the mail system is
};

// Where the daemon has its files, with a complaint about what is wrong with the configuration. Nothing
// if the command cannot go on; exit_code says why.
std::optional<daemon::ToolPaths> find_places_or_complain(const Administration& how, int& exit_code,
                                                         bool warns = true);

// Asks, gives each line of the answer to on_line, and complains of what went wrong.
int ask(const Administration& how, const daemon::ControlRequest& request,
        const daemon::OnLine& on_line);

int list_queue(const Administration& how, const daemon::FilterText& filter);
int count_queue(const Administration& how, const daemon::FilterText& filter);
// request.act is "change".
int change_queue(const Administration& how, const daemon::ControlRequest& request,
                 bool say_what = true);
// request.act is "summary".
int summarize_queue(const Administration& how, const daemon::ControlRequest& request);
// request.act is "pause" or "resume".
int pause_queue(const Administration& how, const daemon::ControlRequest& request);
int salvage_queue(const Administration& how);
int show_message(const Administration& how, const std::string& id, bool body);
int explain(const Administration& how, const std::string& target);
// act: tls_reports, dmarc_reports.
int daily_reports(const Administration& how, const char* act, bool send, bool today_too);
int reload_daemon(const Administration& how);
int show_sites(const Administration& how, bool trouble);
// What is kept behind `after`, or the newest `last`; follow: and what comes, until it is ended.
int show_events(const Administration& how, std::string after, const std::string& last, bool follow);
int replay_events(const Administration& how, const std::string& sink, const std::string& id);
int show_status(const Administration& how);
// As Postfix's postqueue prints it.
int print_mailq(const Administration& how);

}  // namespace postrider::cli
