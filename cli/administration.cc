#include "cli/administration.h"

#include "web/metrics.h"

#include "base/base64.h"
#include "base/text.h"
#include "cli/layout.h"
#include "cli/mailq_listing.h"
#include "cli/output.h"
#include "cli/queue_words.h"
#include "cli/site_view.h"
#include "cli/summary_view.h"
#include "cli/views.h"
#include "daemon/control/offline.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <poll.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::cli {

namespace {

namespace json = boost::json;
using daemon::ControlRequest;

std::int64_t now_seconds() {
  return static_cast<std::int64_t>(std::time(nullptr));
}

bool print_json(const json::object& object) {
  return print_raw(json_line(object));
}

ControlRequest request_for(const char* act) {
  ControlRequest request;
  request.act = act;
  return request;
}

const char* past(const std::string& verb) {
  constexpr struct {
    std::string_view verb;
    const char* past;
  } kPast[] = {{"hold", "held"},       {"release", "released"}, {"retry", "tried again now"},
               {"remove", "removed"},  {"bounce", "bounced"},   {"expire", "expired"},
               {"reroute", "rerouted"}};
  for (const auto& row : kPast)
    if (row.verb == verb)
      return row.past;
  return "changed";
}

// "`postrider queue resume example.org`": what ends the pauses that keep it.
std::string resume_text(const json::array& orders) {
  constexpr std::size_t kFew = 3;
  if (orders.empty() || orders.size() > kFew)
    return "`postrider queue resume` (what is paused, `postrider status` says)";
  std::string text;
  for (const auto& order : orders)
    if (const auto* of = order.if_string())
      text.append(text.empty() ? "`" : ", `").append(escaped(std::string_view(*of), 400)) += "`";
  return text;
}

// What a verb leaves alone or cannot set in motion, and what helps there.
std::string kept_text(const json::object& changed, const json::array& resumes) {
  const struct {
    const char* name;
    const char *one, *many;
    std::string remedy;
  } rows[] = {
      {"held", "is held and not tried", "are held and not tried", "`postrider queue release`"},
      {"paused", "is paused and tried when that ends", "are paused and tried when that ends",
       resume_text(resumes)},
      {"unreleased", "waits for the time that its sender chose",
       "wait for the time that their senders chose", "`postrider queue release`"}};
  std::string text;
  for (const auto& row : rows) {
    const auto number = [&](const char* of) {
      return static_cast<std::uint64_t>(number_of(changed, std::string(row.name) + of));
    };
    const auto messages = number("_messages");
    if (messages == 0)
      continue;
    text.append(counted(messages, "message"))
        .append(" (")
        .append(counted(number("_recipients"), "recipient"))
        .append(") ")
        .append(messages == 1 ? row.one : row.many)
        .append(": ")
        .append(row.remedy)
        .append("\n");
  }
  return text;
}

std::string changed_text(const json::object& changed, const json::array& resumes,
                         const std::string& verb) {
  const auto messages = static_cast<std::uint64_t>(number_of(changed, "messages"));
  const auto recipients = static_cast<std::uint64_t>(number_of(changed, "recipients"));
  const char* would = flag_of(changed, "dry_run") ? " would be " : ": ";
  auto text = counted(messages, "message") + " (" + counted(recipients, "recipient") + ")" + would +
              past(verb) + "\n";
  const auto under_way = static_cast<std::uint64_t>(number_of(changed, "under_way_messages"));
  const auto delivering = static_cast<std::uint64_t>(number_of(changed, "under_way_recipients"));
  if (under_way > 0)
    text += counted(under_way, "message") + " (" + counted(delivering, "recipient") +
            (under_way == 1 ? ") under way is not stopped\n" : ") under way are not stopped\n");
  return text + kept_text(changed, resumes);
}

// Of what was named: why the verb has nothing to do there, or not what was hoped for, and what
// helps.
std::string unchanged_text(const json::object& message, const std::string& verb) {
  const auto id = text_of(message, "queue_id"), status = text_of(message, "status"),
             why = text_of(message, "why");
  if (why == "gone")
    return id + " is not in the queue; what became of it says `postrider trace " + id +
           "`, and the log: journalctl POSTRIDER_ID=" + id;
  if (why == "held")
    return id + " is held already: `postrider queue release " + id + "` lets it go";
  if (why == "not held")
    return id + " is not held, it is " + status + ": `postrider queue retry " + id +
           "` tries it now";
  if (why == "active")
    return id + " is not held, it is being tried: `postrider explain " + id +
           "` says what it waits for";
  if (why == "held and active")
    return id +
           " is held if this attempt, which is under way, does not deliver it: `postrider "
           "queue release " +
           id + "` ends that";
  if (why == "bouncing and active")
    return id +
           " is under way: what this attempt does not deliver is returned to its sender, and "
           "only `postrider queue remove " +
           id + "` ends that";
  if (why == "bouncing")
    return id + " is being returned to its sender: only `postrider queue remove " + id +
           "` ends that";
  if (why == "damaged")
    return id + " was held because of damage (" + text_of(message, "reason") + "), and " +
           (verb == "retry" ? "stays so" : "is held again unless that is mended") +
           ": `postrider queue remove " + id +
           "`, or put its content back and `postrider queue release " + id + "`";
  return id + " is in the queue (" + status +
         "), but nothing of it matches the rest of what was asked: `postrider queue show " + id +
         "` has its sender and recipients";
}

// Rewrites one line of standard error while the daemon works, when that takes longer than a second,
// and takes it away at the end.
class Progress {
 public:
  Progress() = default;
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }
  void show(const json::object& line) {
    const auto* progress = object_of(line, "progress");
    if (progress == nullptr || !standard_error_is_terminal())
      return;
    const auto seconds = number_of(*progress, "milliseconds") / 1000;
    if (seconds < 1)
      return;
    std::fprintf(stderr, "\rworking, %s ", short_span(seconds).c_str());
    is_shown_ = true;
  }
  void clear() {
    if (is_shown_)
      std::fprintf(stderr, "\r%24s\r", "");
    is_shown_ = false;
  }

 private:
  bool is_shown_ = false;
};

// Content is not for terminals: what could steer one is shown escaped, but for line ends and tabs.
bool print_content(std::string_view content) {
  if (::isatty(STDOUT_FILENO) != 1)
    return print_raw(content);
  std::string text(content);
  for (auto at = text.find("\r\n"); at != text.npos; at = text.find("\r\n", at))
    text.erase(at, 1);
  return print(text);
}

std::string recipients_view(const json::object& message, std::int64_t now) {
  std::string text;
  const auto* recipients = array_of(message, "recipients");
  for (std::size_t i = 0; recipients != nullptr && i < recipients->size(); ++i) {
    const auto* recipient = (*recipients)[i].if_object();
    if (recipient == nullptr)
      continue;
    text.append("recipient     ").append(text_of(*recipient, "address")).append(": ");
    text.append(recipient_state(*recipient, now)).append("\n");
    if (const auto reason = text_of(*recipient, "delay_reason"); !reason.empty())
      text.append("              ").append(reason).append("\n");
  }
  return text;
}

// The lines of an explanation, one after the other.
class ExplanationView {
 public:
  explicit ExplanationView(std::int64_t now) : now_(now) {}

  std::string line(const json::object& line) {
    if (const auto* message = object_of(line, "message"))
      return message_view(*message) + recipients_view(*message, now_);
    if (const auto* attempt = object_of(line, "attempt")) {
      std::string text = had_attempt_ ? "" : "attempts so far\n";
      had_attempt_ = true;
      return text + attempt_view(*attempt);
    }
    const auto* fact = object_of(line, "fact");
    if (fact == nullptr)
      return {};
    std::string text;
    const auto address = text_of(*fact, "address");
    if (address != address_)
      text.append("mail for ").append(address).append("\n");
    address_ = address;
    return text.append("  ")
               .append(padded(text_of(*fact, "what"), 14))
               .append(with_local_times(text_of(*fact, "text"))) +
           "\n";
  }

 private:
  std::int64_t now_;
  bool had_attempt_ = false;
  std::string address_;
};

// The same as one object.
void collect(const json::object& line, json::object& whole) {
  if (const auto* message = object_of(line, "message"))
    whole["message"] = *message;
  if (const auto* attempt = object_of(line, "attempt"))
    whole["attempts"].get_array().push_back(*attempt);
  if (const auto* fact = object_of(line, "fact"))
    whole["facts"].get_array().push_back(*fact);
}

// "root" is root@origin, as sendmail has it.
std::string whole_target(const Administration& how, const std::string& target) {
  if (!is_bare_word(target) || target.empty())
    return target;
  const auto places = daemon::find_places(how.options);
  return places ? target + "@" + places->origin : target;
}

}  // namespace

std::optional<daemon::ToolPaths> find_places_or_complain(const Administration& how, int& exit_code,
                                                         bool warns) {
  auto places = daemon::find_places(how.options);
  if (!places) {
    exit_code = complain(how.program, daemon::exit_code_without_places(places.error()),
                         places.error().step());
    return std::nullopt;
  }
  if (warns && !places->warning.empty())
    complain(how.program, EX_OK, places->warning);
  return *std::move(places);
}

int ask(const Administration& how, const ControlRequest& request, const daemon::OnLine& on_line) {
  int no_places = EX_OK;
  const bool warns = request.act != "reload";  // the daemon says it, too
  const auto places = find_places_or_complain(how, no_places, warns);
  if (!places)
    return no_places;
  const auto end = daemon::administrate(*places, request, on_line);
  if (end.exit_code != 0)
    return complain(how.program, end.exit_code, end.error);
  return EX_OK;
}

int list_queue(const Administration& how, const daemon::FilterText& filter) {
  auto request = request_for("list");
  request.filter = filter;
  const auto now = now_seconds();
  std::uint64_t messages = 0;
  const int code = ask(how, request, [&](const json::object& line) {
    const auto* message = object_of(line, "message");
    if (message == nullptr)
      return true;
    if (how.json)
      return print_json(*message);
    const bool first = messages++ == 0;
    return print_view((first ? queue_heading() : "") + queue_row(*message, now));
  });
  if (code == EX_OK && !how.json)
    print(messages == 0 ? (filter.matches_all() ? "The queue is empty.\n" : "No message matches.\n")
                        : counted(messages, "message") + "\n");
  return code;
}

int count_queue(const Administration& how, const daemon::FilterText& filter) {
  auto request = request_for("count");
  request.filter = filter;
  return ask(how, request, [&](const json::object& line) {
    const auto* count = object_of(line, "count");
    if (count == nullptr)
      return true;
    if (how.json)
      return print_json(*count);
    return print(
        counted(static_cast<std::uint64_t>(number_of(*count, "messages")), "message") + ", " +
        counted(static_cast<std::uint64_t>(number_of(*count, "recipients")), "recipient") + "\n");
  });
}

namespace {

// The numbers of one answer are added to those of the others.
void add_up(const json::object& changed, json::object& sum) {
  for (const auto& member : changed) {
    const std::string_view name(member.key().data(), member.key().size());
    if (member.value().is_int64() || member.value().is_uint64())
      sum[member.key()] = number_of(sum, name) + number_of(changed, name);
    else
      sum[member.key()] = member.value();
  }
}

bool changes_nothing(const json::object& sum) {
  constexpr const char* kNumbers[] = {"messages", "under_way_messages", "held_messages",
                                      "paused_messages", "unreleased_messages"};
  return std::all_of(std::begin(kNumbers), std::end(kNumbers),
                     [&](const char* name) { return number_of(sum, name) == 0; });
}

// Waits so long, or until nobody reads what standard output gets: `| head` has its lines.
bool is_reader_gone(std::chrono::milliseconds pause) {
  pollfd reader{STDOUT_FILENO, 0, 0};
  return ::poll(&reader, 1, static_cast<int>(pause.count())) > 0;
}

// Of `status --check`, as monitoring programs have it.
constexpr int kWarning = 1;
constexpr int kCritical = 2;

// Metrics say "down" in a line of their own, and are kept by who collects them.
int status_code(const Administration& how, const json::object& status) {
  if (how.prometheus)
    return EX_OK;
  if (!flag_of(status, "running")) {
    complain(
        how.program, EX_UNAVAILABLE,
        "the mail system is down; start it, by `systemctl start postrider` or `postrider run`");
    return EX_UNAVAILABLE;
  }
  if (!how.is_check)
    return EX_OK;
  if (!is_accepting(status))
    return kCritical;
  return has_alarm(status) ? kWarning : EX_OK;
}

}  // namespace

// As many ids as a command line has, in requests of as many as the daemon takes.
int change_queue(const Administration& how, const ControlRequest& request, bool say_what) {
  constexpr std::size_t kMostIds = 1000;
  auto ids = request.filter.ids;
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  auto part = request;
  Progress progress;
  json::object sum;
  json::array resumes;
  std::vector<std::string> unchanged;
  int code = EX_OK;
  for (std::size_t at = 0; code == EX_OK && (at == 0 || at < ids.size()); at += kMostIds) {
    const auto end = std::min(at + kMostIds, ids.size());
    part.filter.ids.assign(ids.begin() + static_cast<std::ptrdiff_t>(at),
                           ids.begin() + static_cast<std::ptrdiff_t>(end));
    code = ask(how, part, [&](const json::object& line) {
      progress.show(line);
      if (const auto* changed = object_of(line, "changed"))
        add_up(*changed, sum);
      if (const auto* resume = object_of(line, "resume"))
        if (const auto* orders = array_of(*resume, "orders"))
          resumes = *orders;
      if (const auto* message = object_of(line, "unchanged"))
        unchanged.push_back(unchanged_text(*message, request.verb));
      return true;
    });
  }
  progress.clear();
  if (!sum.empty() && say_what)
    how.json ? print_json(sum) : print_view(changed_text(sum, resumes, request.verb));
  for (const auto& text : unchanged)
    complain(how.program, EX_OK, text);
  if (!sum.empty() && !ids.empty() && unchanged.empty() && changes_nothing(sum))
    complain(how.program, EX_OK,
             "none of these ids is in the queue, and matches; what became of one says "
             "`postrider trace " +
                 ids.front() + "`, and the log: journalctl POSTRIDER_ID=" + ids.front());
  return code;
}

int summarize_queue(const Administration& how, const ControlRequest& request) {
  std::vector<json::object> groups;
  Progress progress;
  return ask(how, request, [&](const json::object& line) {
    progress.show(line);
    if (const auto* group = object_of(line, "group")) {
      if (how.json)
        return print_json(line);
      groups.emplace_back() = *group;  // whose memory is the line's
    }
    const auto* summary = object_of(line, "summary");
    if (summary == nullptr)
      return true;
    progress.clear();
    return how.json ? print_json(line) : print_view(summary_view(groups, *summary, now_seconds()));
  });
}

int pause_queue(const Administration& how, const ControlRequest& request) {
  Progress progress;
  return ask(how, request, [&](const json::object& line) {
    progress.show(line);
    const auto* paused = object_of(line, "paused");
    const auto* resumed = object_of(line, "resumed");
    if (paused == nullptr && resumed == nullptr)
      return true;
    progress.clear();
    if (how.json)
      return print_json(paused != nullptr ? *paused : *resumed);
    return print_view(paused != nullptr ? paused_view(*paused) : resumed_view(*resumed));
  });
}

int salvage_queue(const Administration& how) {
  int no_places = EX_OK;
  const auto places = find_places_or_complain(how, no_places);
  if (!places)
    return no_places;
  const auto report = daemon::salvage_queue(*places);
  if (report.exit_code != EX_OK && report.exit_code != EX_TEMPFAIL)
    return complain(how.program, report.exit_code, report.text.substr(0, report.text.size() - 1));
  print(report.text);
  return report.exit_code;
}

int show_message(const Administration& how, const std::string& id, bool body) {
  auto request = request_for("show");
  request.target = id;
  request.body = body;
  json::object message;
  std::string content;
  bool is_shown = false;
  const auto now = now_seconds();
  const int code = ask(how, request, [&](const json::object& line) {
    if (const auto* found = object_of(line, "message")) {
      message = *found;
      if (how.json)
        return true;
      return print_view(message_view(*found) + recipients_view(*found, now));
    }
    if (const auto* envelope = object_of(line, "envelope")) {
      if (how.json)
        message["envelope"] = *envelope;
      return how.json || print_view(envelope_view(*envelope) + "\n");
    }
    auto chunk = decode_base64(raw_text_of(line, "content"));
    if (!chunk)
      return true;
    is_shown = is_shown || line.contains("content");
    if (how.json) {
      content.append(*chunk);
      return true;
    }
    return print_content(*chunk);
  });
  if (code != EX_OK)
    return code;
  if (!how.json) {
    if (!is_shown)
      print_view("the header is not shown to members of the group of control.readers\n");
    return code;
  }
  const char* name = body ? "content" : "header";
  if (is_shown && is_utf8(content))
    message[name] = content;
  else if (is_shown)
    message[std::string(name) + "_base64"] = encode_base64(content);
  print_json(message);
  return EX_OK;
}

int explain(const Administration& how, const std::string& target) {
  auto request = request_for("explain");
  request.target = whole_target(how, target);
  ExplanationView view(now_seconds());
  json::object whole;
  whole["target"] = request.target;
  whole["attempts"] = json::array();
  whole["facts"] = json::array();
  const int code = ask(how, request, [&](const json::object& line) {
    if (how.json) {
      collect(line, whole);
      return true;
    }
    return print_view(view.line(line));
  });
  if (code == EX_OK && how.json)
    print_json(whole);
  return code;
}

int daily_reports(const Administration& how, const char* act, bool send, bool today_too) {
  auto request = request_for(act);
  request.verb = send ? "send" : "";
  request.all = today_too;
  ExplanationView view(now_seconds());
  return ask(how, request, [&](const json::object& line) {
    if (const auto* fact = object_of(line, "fact"); fact != nullptr && how.json)
      return print_json(*fact);
    return print_view(view.line(line));
  });
}

// What the daemon refuses goes to standard error, as any mistake does.
int reload_daemon(const Administration& how) {
  const int code = ask(how, request_for("reload"), [&](const json::object& line) {
    if (const auto* problem = object_of(line, "problem"))
      complain(how.program, EX_OK, text_of(*problem, "text"));
    else if (const auto* note = object_of(line, "note"))
      complain(how.program, EX_OK, "note: " + text_of(*note, "text"));
    return true;
  });
  if (code == EX_OK)
    print("reloaded\n");
  return code;
}

int show_sites(const Administration& how, bool trouble) {
  auto request = request_for("sites");
  request.all = !trouble;
  bool is_first = true;
  const int code = ask(how, request, [&](const json::object& line) {
    const auto* site = object_of(line, "site");
    if (site == nullptr)
      return true;
    is_first = false;
    return how.json ? print_json(*site) : print_view(site_view(*site, now_seconds()));
  });
  if (code == EX_OK && is_first && !how.json)
    print(trouble ? "no site is in trouble\n" : "no site is known\n");
  return code;
}

int show_events(const Administration& how, std::string after, const std::string& last,
                bool follow) {
  constexpr auto kPause = std::chrono::seconds(1);
  auto request = request_for("events");
  request.last = last;
  for (bool is_read = true;;) {
    request.target = after;
    const int code = ask(how, request, [&](const json::object& line) {
      if (const auto* event = object_of(line, "event"))
        return is_read = print_json(*event);
      if (const auto* lost = line.if_contains("lost"))
        complain(how.program, EX_OK,
                 json::serialize(*lost) + " events before these are no longer kept");
      if (const auto position = text_of(line, "position"); !position.empty())
        after = position;
      return true;
    });
    if (code != EX_OK || !follow || !is_read)
      return code;
    request.last.clear();
    if (is_reader_gone(kPause))
      return code;
  }
}

int replay_events(const Administration& how, const std::string& sink, const std::string& id) {
  auto request = request_for("events");
  request.verb = "replay";
  request.target = sink;
  if (!id.empty())
    request.filter.ids.push_back(id);
  return ask(how, request, [](const json::object&) { return true; });
}

int show_status(const Administration& how) {
  int code = EX_OK;
  const int asked = ask(how, request_for("status"), [&](const json::object& line) {
    const auto* status = object_of(line, "status");
    if (status == nullptr)
      return true;
    code = status_code(how, *status);
    if (how.prometheus)
      return print(
          web::metrics_of(status, web::process_use(*status), web::MetricsFormat::prometheus));
    return how.json ? print_json(*status) : print_view(status_view(*status));
  });
  return asked == EX_OK ? code : asked;
}

int print_mailq(const Administration& how) {
  MailqListing listing;
  const int code = ask(how, request_for("list"), [&](const json::object& line) {
    const auto* message = object_of(line, "message");
    if (message == nullptr)
      return true;
    return how.json ? print_json(*message) : print(listing.message(*message));
  });
  if (code == EX_OK && !how.json)
    print(listing.end());
  return code;
}

}  // namespace postrider::cli
