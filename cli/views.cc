#include "cli/views.h"

#include "base/text.h"
#include "cli/layout.h"
#include "cli/output.h"

#include <boost/json/array.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <pwd.h>
#include <utility>
#include <vector>

namespace postrider::cli {

namespace {

namespace json = boost::json;

std::string sender_of(const json::object& message) {
  const auto sender = text_of(message, "envelope_sender");
  return sender.empty() ? "<>" : sender;
}

// Members of the status that have their own place, or are said there: what delivery counted stands
// in "since start". The rest is shown as composition gave it.
bool is_placed(std::string_view name) {
  for (const char* placed : {"version",       "running",          "now",
                             "started",       "admission",        "queue",
                             "since_start",   "sites_in_trouble", "hostname",
                             "drop_folder",   "paused",           "alarms",
                             "last_minute",   "last_hour",        "config_refused",
                             "delivered",     "deferred",         "bounced",
                             "busiest_sites", "queue_ages",       "deferring_sites"})
    if (name == placed)
      return true;
  return false;
}

// "uid 33" as "uid 33 (www-data)", for accounts that have a name.
std::string with_account_names(std::string_view text) {
  constexpr std::string_view kMark = "uid ";
  std::string out;
  for (auto at = text.find(kMark); at != text.npos; at = text.find(kMark)) {
    auto end = at + kMark.size();
    uid_t uid = 0;
    const auto [rest, error] = std::from_chars(text.data() + end, text.data() + text.size(), uid);
    end = static_cast<std::size_t>(rest - text.data());
    out.append(text.substr(0, end));
    if (const passwd* entry = error == std::errc() ? ::getpwuid(uid) : nullptr; entry != nullptr)
      out.append(" (").append(entry->pw_name).append(")");
    text.remove_prefix(end);
  }
  return out.append(text);
}

std::string value_text(const json::value& value) {
  if (value.is_string())
    return with_account_names(with_local_times(escaped(value.get_string(), 2000)));
  if (value.is_bool())
    return value.get_bool() ? "yes" : "no";
  if (value.is_uint64())
    return std::to_string(value.get_uint64());
  if (value.is_int64())
    return std::to_string(value.get_int64());
  std::string joined;
  if (const auto* list = value.if_array())
    for (const auto& item : *list)
      joined.append(joined.empty() ? "" : ", ").append(value_text(item));
  return joined;
}

constexpr std::size_t kLabel = 14;

std::string row(std::string_view name, std::string_view text) {
  return padded(name, kLabel) + (name.size() < kLabel ? "" : " ") + std::string(text) + "\n";
}

// "clients_listed" for people.
std::string label_of(std::string_view name) {
  std::string label(name);
  std::replace(label.begin(), label.end(), '_', ' ');
  return label;
}

// What composition gave, under each other in a column of its own.
std::string other_rows(const json::object& status) {
  std::vector<std::pair<std::string, std::string>> rows;
  std::size_t widest = kLabel;
  for (const auto& [name, value] : status) {
    auto text = is_placed(name) ? std::string() : value_text(value);
    if (text.empty())
      continue;
    rows.emplace_back(label_of(name), std::move(text));
    widest = std::max(widest, rows.back().first.size() + 2);
  }
  std::string out;
  for (const auto& [label, text] : rows)
    out.append(padded(label, widest)).append(text).append("\n");
  return out;
}

std::string queue_rows(const json::object& queue, std::int64_t now) {
  const auto messages = static_cast<std::uint64_t>(number_of(queue, "messages"));
  std::string text = counted(messages, "message");
  text.append(", ").append(
      counted(static_cast<std::uint64_t>(number_of(queue, "recipients")), "recipient"));
  text.append(", ").append(short_size(static_cast<std::uint64_t>(number_of(queue, "bytes"))));
  std::string out = row("queue", text);
  if (messages == 0)
    return out;
  std::string parts;
  for (const char* name : {"active", "queued", "deferred", "held"})
    parts.append(parts.empty() ? "" : ", ")
        .append(std::to_string(number_of(queue, name)))
        .append(" ")
        .append(name);
  out.append(row("", parts));
  const auto oldest = number_of(queue, "oldest");
  if (oldest > 0)
    out.append(row("oldest", short_span(now - oldest) + " (since " + local_time(oldest) + ")"));
  return out;
}

std::string drop_row(const json::object& drop, std::int64_t now) {
  const auto waiting = static_cast<std::uint64_t>(number_of(drop, "waiting"));
  const auto refused = static_cast<std::uint64_t>(number_of(drop, "refused"));
  std::string text;
  if (waiting > 0) {
    text = counted(waiting, "message") + (waiting == 1 ? " waits" : " wait") + ", the oldest for " +
           short_span(now - number_of(drop, "oldest"));
    if (const auto reason = text_of(drop, "reason"); !reason.empty())
      text.append(": ").append(reason);
  }
  if (refused > 0)
    text.append(text.empty() ? "" : "; ").append(counted(refused, "message")).append(" refused");
  return text.empty() ? text : row("drop folder", text);
}

std::string site_row(const json::object& site, std::int64_t now) {
  std::string out = "  ";
  out.append(text_of(site, "site")).append(": ");
  const auto waiting = static_cast<std::uint64_t>(number_of(site, "recipients"));
  out.append(counted(waiting, "recipient")).append(waiting == 1 ? " waits, " : " wait, ");
  out.append(counted(static_cast<std::uint64_t>(number_of(site, "failures")), "failure"));
  out.append(" since ").append(local_time(number_of(site, "since")));
  const auto until = number_of(site, "blocked_until");
  out.append(until > now ? ", next try in " + short_span(until - now) : ", next try now");
  out.append("\n    ").append(text_of(site, "reason")).append("\n");
  return out;
}

// Those for whom most waits, as many as fit on a screen.
std::string site_rows(const json::array& sites, std::int64_t now) {
  constexpr std::size_t kMostSites = 10;
  std::vector<const json::object*> shown;
  for (const auto& value : sites)
    if (const auto* site = value.if_object(); site != nullptr && number_of(*site, "recipients") > 0)
      shown.push_back(site);
  std::string out = row("trouble", shown.empty() ? "no site" : counted(shown.size(), "site") + ":");
  if (shown.size() < sites.size())
    out = row("trouble", (shown.empty() ? "" : counted(shown.size(), "site") + ", and ") +
                             counted(sites.size() - shown.size(), "site") +
                             " without mail: postrider sites --trouble");
  std::sort(shown.begin(), shown.end(), [](const auto* a, const auto* b) {
    const auto waiting = number_of(*a, "recipients"), others = number_of(*b, "recipients");
    return waiting != others ? waiting > others : a < b;
  });
  for (std::size_t i = 0; i < std::min(shown.size(), kMostSites); ++i)
    out.append(site_row(*shown[i], now));
  if (shown.size() > kMostSites)
    out.append("  and ")
        .append(counted(shown.size() - kMostSites, "other site"))
        .append(": postrider sites --trouble\n");
  return out;
}

// Those that can be reached and take nothing, the worst first.
std::string deferring_rows(const json::array& sites) {
  constexpr std::size_t kMostSites = 5;
  std::vector<const json::object*> shown;
  for (const auto& value : sites)
    if (const auto* site = value.if_object())
      shown.push_back(site);
  if (shown.empty())
    return {};
  std::sort(shown.begin(), shown.end(), [](const auto* a, const auto* b) {
    return number_of(*a, "only_deferred") > number_of(*b, "only_deferred");
  });
  auto out = row("deferring", counted(shown.size(), "site") + ":");
  for (std::size_t i = 0; i < std::min(shown.size(), kMostSites); ++i)
    out.append("  ")
        .append(text_of(*shown[i], "site"))
        .append(": takes no mail since ")
        .append(local_time(number_of(*shown[i], "only_deferred_since")))
        .append(", ")
        .append(
            counted(static_cast<std::uint64_t>(number_of(*shown[i], "only_deferred")), "recipient"))
        .append(" deferred\n    ")
        .append(text_of(*shown[i], "reason"))
        .append("\n");
  if (shown.size() > kMostSites)
    out.append("  and ")
        .append(counted(shown.size() - kMostSites, "other site"))
        .append(": postrider sites --trouble\n");
  return out;
}

// What somebody has to look at, each in a line of its own.
std::string alarm_rows(const json::object& status) {
  std::string out;
  if (!is_accepting(status))
    out.append(row("new mail", text_of(status, "admission")));
  constexpr std::string_view kMark = "ALARM: ";
  if (const auto* alarms = array_of(status, "alarms"))
    for (const auto& alarm : *alarms) {
      auto text = value_text(alarm);
      if (text.starts_with(kMark))
        text.erase(0, kMark.size());
      out.append(row("ALARM", text));
    }
  const auto* queue = object_of(status, "queue");
  const auto damaged =
      queue == nullptr ? 0 : static_cast<std::uint64_t>(number_of(*queue, "quarantined"));
  if (damaged > 0)
    out.append(row("ALARM", counted(damaged, "message") +
                                " held because of damage: see `postrider queue --status held`"));
  return out;
}

std::string pause_rows(const json::object& status) {
  std::string out;
  const auto* pauses = array_of(status, "paused");
  for (std::size_t i = 0; pauses != nullptr && i < pauses->size(); ++i) {
    const auto* pause = (*pauses)[i].if_object();
    if (pause == nullptr)
      continue;
    const auto until = number_of(*pause, "until");
    const auto name = text_of(*pause, "name");
    const auto text = (name.empty() ? "all mail" : text_of(*pause, "kind") + " " + name) +
                      " since " + local_time(number_of(*pause, "since")) +
                      (until > 0 ? ", until " + local_time(until) : "");
    out.append(row(out.empty() ? "paused" : "", text));
  }
  return out;
}

std::string counter_text(const json::object& counters) {
  std::string out;
  for (const char* name : {"accepted", "delivered", "bounced", "removed", "deferrals", "untried"})
    out.append(out.empty() ? "" : ", ")
        .append(std::to_string(number_of(counters, name)))
        .append(" ")
        .append(name);
  return out;
}

}  // namespace

std::string queue_heading() {
  return "ID           STATUS    AGE     SIZE   SENDER AND RECIPIENTS\n";
}

std::string recipient_state(const json::object& recipient, std::int64_t now) {
  const auto state = text_of(recipient, "state");
  const auto attempts = number_of(recipient, "attempts");
  std::string text = state;
  if (flag_of(recipient, "paused")) {
    const auto next = number_of(recipient, "next_attempt");
    text.append(next > now ? ", paused for " + short_span(next - now) : ", paused");
  } else if (state == "deferred" || state == "queued") {
    const auto next = number_of(recipient, "next_attempt");
    if (next > now)
      text.append(", next attempt in ").append(short_span(next - now));
    else if (state == "deferred")
      text.append(", waits for its site, or is due now");
    else
      text.append(", due now");
  }
  if (const auto hop = text_of(recipient, "next_hop"); !hop.empty())
    text.append(", rerouted to ").append(hop);
  if (attempts > 0)
    text.append(" (").append(counted(static_cast<std::uint64_t>(attempts), "attempt")).append(")");
  return text;
}

std::string queue_row(const json::object& message, std::int64_t now) {
  std::string out = padded(text_of(message, "queue_id"), 13);
  out.append(padded(text_of(message, "status"), 10));
  out.append(padded(short_span(now - number_of(message, "arrival_time")), 8));
  out.append(padded(short_size(static_cast<std::uint64_t>(number_of(message, "message_size"))), 7));
  out.append(sender_of(message)).append("\n");
  const auto* recipients = array_of(message, "recipients");
  if (const auto reason = text_of(message, "reason");
      !reason.empty() && (recipients == nullptr || recipients->empty()))
    out.append("       ").append(reason).append("\n");
  for (std::size_t i = 0; recipients != nullptr && i < recipients->size(); ++i) {
    const auto* recipient = (*recipients)[i].if_object();
    if (recipient == nullptr)
      continue;
    out.append("    -> ").append(text_of(*recipient, "address"));
    out.append("  ").append(recipient_state(*recipient, now)).append("\n");
    const auto reason = text_of(*recipient, "delay_reason");
    if (!reason.empty())
      out.append("       ").append(reason).append("\n");
  }
  return out;
}

std::string message_view(const json::object& message) {
  std::string out = row("id", text_of(message, "queue_id"));
  out.append(row("status", text_of(message, "status")));
  out.append(row("sender", sender_of(message)));
  out.append(row("received", local_time(number_of(message, "arrival_time"))));
  out.append(row("expires", local_time(number_of(message, "expires"))));
  out.append(row("size", std::to_string(number_of(message, "message_size")) + " octets"));
  out.append(
      row("from client", text_of(message, "client") + " (" + text_of(message, "protocol") + ")"));
  if (const auto tls = text_of(message, "tls"); !tls.empty())
    out.append(row("tls", tls));
  return out;
}

std::string envelope_view(const json::object& envelope) {
  std::string out =
      row("body", text_of(envelope, "body") + (flag_of(envelope, "smtputf8") ? " SMTPUTF8" : ""));
  for (const char* name : {"ret", "envelope_id"})
    if (const auto text = text_of(envelope, name); !text.empty())
      out.append(row(name, text));
  if (const auto release = number_of(envelope, "release"); release != 0)
    out.append(row("not before", local_time(release)));
  if (const auto by = number_of(envelope, "deliver_by"); by != 0)
    out.append(
        row("deliver by", local_time(by) + " (" + text_of(envelope, "deliver_by_mode") + ")"));
  if (const auto priority = number_of(envelope, "priority"); priority != 0)
    out.append(row("priority", std::to_string(priority)));
  return out;
}

std::string attempt_view(const json::object& attempt) {
  std::string out = "  " + local_time(number_of(attempt, "when")) + "  ";
  out.append(padded(text_of(attempt, "verdict"), 10));
  out.append(text_of(attempt, "recipient")).append("\n");
  out.append("      ").append(text_of(attempt, "reason")).append("\n");
  if (const auto tls = text_of(attempt, "tls"); !tls.empty())
    out.append("      TLS: ").append(tls).append("\n");
  return out;
}

bool is_accepting(const json::object& status) {
  return !text_of(status, "admission").starts_with("no new mail");
}

bool has_alarm(const json::object& status) {
  return !alarm_rows(status).empty();
}

std::string rate_row(const json::object& before, const json::object& status, double seconds) {
  const auto* then = object_of(before, "since_start");
  const auto* now = object_of(status, "since_start");
  if (then == nullptr || now == nullptr || seconds <= 0 ||
      number_of(before, "started") != number_of(status, "started"))
    return {};
  std::string out;
  for (const char* name : {"accepted", "delivered", "bounced", "deferrals"}) {
    const auto more = std::max<std::int64_t>(number_of(*now, name) - number_of(*then, name), 0);
    char rate[32];
    (void)std::snprintf(rate, sizeof rate, "%.1f ", static_cast<double>(more) / seconds);
    out.append(out.empty() ? "" : ", ").append(rate).append(name);
  }
  return row("a second", out);
}

std::string status_view(const json::object& status) {
  const auto now = number_of(status, "now");
  std::string running = "not running";
  if (flag_of(status, "running"))
    running = "running for " + short_span(now - number_of(status, "started"));
  std::string out = alarm_rows(status);
  out.append(row("postrider", text_of(status, "version") + ", " + running));
  if (const auto hostname = text_of(status, "hostname"); !hostname.empty())
    out.append(row("hostname", hostname));
  if (is_accepting(status))
    out.append(row("new mail", text_of(status, "admission")));  // else it stands above
  if (const auto* queue = object_of(status, "queue"))
    out.append(queue_rows(*queue, now));
  if (const auto* drop = object_of(status, "drop_folder"))
    out.append(drop_row(*drop, now));
  out.append(pause_rows(status));
  constexpr std::pair<const char*, const char*> kCounted[] = {
      {"last_minute", "last minute"}, {"last_hour", "last hour"}, {"since_start", "since start"}};
  for (const auto& [name, label] : kCounted)
    if (const auto* counters = object_of(status, name))
      out.append(row(label, counter_text(*counters)));
  out.append(other_rows(status));
  if (const auto* sites = array_of(status, "deferring_sites"))
    out.append(deferring_rows(*sites));
  if (const auto* sites = array_of(status, "sites_in_trouble"))
    out.append(site_rows(*sites, now));
  return out;
}

}  // namespace postrider::cli
