// How the tools talk to the daemon, one request a connection: the request is one line of JSON, at
// most kMostRequest bytes; the answer is lines of JSON, the last of which is {"end":{...}} with a
// status and an exit code of sysexits.h. An answer without that line is incomplete.
#pragma once

#include "base/result.h"

#include <boost/json/object.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

inline constexpr std::size_t kMostRequest = 64U << 10U;
inline constexpr std::size_t kMostAnswerLine = 64U << 20U;  // a message with its body, escaped

// The filter of a request as it was typed; the service checks it. Empty vectors and nullopt do not
// restrict.
struct FilterText {
  std::vector<std::string> ids;
  std::optional<std::string> from, to, domain, site, status, reply, older, larger;
  bool matches_all() const;
};

struct ControlRequest {
  // list, count, summary, export, change, pause, resume, show, explain, reload, status,
  // tls_reports, dmarc_reports, events, trace
  std::string act;
  FilterText filter;  // list, count, summary, export, change; pause, resume: one domain or sender
  // change: hold, release, retry, remove, bounce, expire, reroute; tls_reports, dmarc_reports: send
  std::string verb;
  bool dry_run = false;  // change, pause, resume
  bool all = false;      // change, pause, resume: "--all" was given; reports: today's too
  std::string by;        // summary: domain, site, sender, client, reason, age
  // summary: of groups; empty: 20, "0": none; trace: of messages; empty: 100, "0": as many as can be
  // status: of sites in trouble, those with most recipients; empty: all
  std::string limit;
  std::string next_hop;  // change: of reroute
  std::string span;      // pause: how long; empty: until it is resumed
  // show, explain: an id or an address; trace: these, or a Message-ID; events: behind which event,
  // or the sink of a replay. The ids of the filter: from which event a replay begins.
  std::string target;
  std::string last;       // events: only so many of the newest; empty: all
  bool body = false;      // show
  std::string since;      // trace: a span or a date; from and to are those of the filter
  bool rejected = false;  // trace
  // Whoever asks is answered as a member of control.readers would be: it only takes rights away.
  bool as_reader = false;
};

std::string encode(const ControlRequest& request);  // one line with its end
Result<ControlRequest> decode_control_request(std::string_view line);

// One line as an object; nesting is limited. The object's memory comes from `storage`.
Result<boost::json::object> parse_json_line(std::string_view line,
                                            boost::json::storage_ptr storage = {});

// How an answer ended.
struct ControlEnd {
  int exit_code = 0;  // sysexits.h
  std::string error;  // a sentence for people; empty if and only if exit_code is 0
};
std::string encode(const ControlEnd& end);  // one line with its end
// nullopt: an ordinary line of the answer.
std::optional<ControlEnd> find_end(const boost::json::object& line);

}  // namespace postrider::daemon
