#include "cli/trace_command.h"

#include "cli/output.h"
#include "cli/queue_words.h"
#include "cli/trace_view.h"
#include "daemon/protocol/tool_paths.h"

#include <boost/json/array.hpp>

#include <ctime>
#include <sysexits.h>
#include <utility>

namespace postrider::cli {

namespace {

namespace json = boost::json;

// The answer as one document, a message at a time:
// {"messages":[{"id":...,"events":[...],"queued":{...}},...],"more":false}, or {"refused":[...],...}
class TraceDocument {
 public:
  explicit TraceDocument(bool is_of_refused)
      : begin_(is_of_refused ? "{\"refused\":[" : "{\"messages\":[") {}
  bool take(const json::object& line) {
    if (const auto* trace = object_of(line, "trace"))
      return end_message() && begin_message(*trace);
    if (const auto* event = object_of(line, "event"))
      return is_in_message_ ? add_event(*event) : add_refused(*event);
    if (const auto* queued = object_of(line, "message"))
      return end_events() && print_raw(",\"queued\":" + one_line(*queued));
    has_more_ = has_more_ || line.contains("more");
    return true;
  }
  bool end() {
    if (std::exchange(is_first_, false))
      print_raw(begin_);
    return end_message() &&
           print_raw(std::string("],\"more\":") + (has_more_ ? "true" : "false") + "}\n");
  }

 private:
  static std::string one_line(const json::object& object) {
    auto text = json_line(object);
    text.pop_back();
    return text;
  }
  std::string next() { return std::exchange(is_first_, false) ? begin_ + "\n" : ",\n"; }
  bool begin_message(const json::object& trace) {
    is_in_message_ = true;
    are_events_open_ = true;
    has_events_ = false;
    auto head = one_line(trace);
    head.pop_back();
    return print_raw(next() + head + ",\"events\":[");
  }
  bool add_event(const json::object& event) {
    return print_raw((std::exchange(has_events_, true) ? ",\n" : "\n") + one_line(event));
  }
  bool add_refused(const json::object& event) { return print_raw(next() + one_line(event)); }
  bool end_events() { return !std::exchange(are_events_open_, false) || print_raw("]"); }
  bool end_message() { return !is_in_message_ || (end_events() && print_raw("}")); }

  const std::string begin_;
  bool is_first_ = true, has_more_ = false;
  bool is_in_message_ = false, are_events_open_ = false, has_events_ = false;
};

// "root" is root@origin, as `explain` has it; a Message-ID without "@" stands in brackets.
std::string whole_target(const Administration& how, const std::string& target) {
  if (target.empty() || target.front() == '<' || !is_bare_word(target))
    return target;
  const auto places = daemon::find_places(how.options);
  return places ? target + "@" + places->origin : target;
}

}  // namespace

int trace_mail(const Administration& how, daemon::ControlRequest request) {
  request.target = whole_target(how, request.target);
  TraceDocument document(request.rejected);
  const auto now = static_cast<std::int64_t>(std::time(nullptr));
  bool has_more = false, is_first = true;
  const int code = ask(how, request, [&](const json::object& line) {
    if (how.json)
      return document.take(line);
    has_more = has_more || line.contains("more");
    if (const auto* trace = object_of(line, "trace"))
      return print_view((std::exchange(is_first, false) ? "" : "\n") + trace_heading(*trace));
    if (const auto* event = object_of(line, "event"))
      return print_view(trace_step(*event));
    const auto* queued = object_of(line, "message");
    return queued == nullptr || print_view(trace_rest(*queued, now));
  });
  if (how.json && (code == EX_OK || code == EX_NOINPUT))
    document.end();
  if (has_more)
    complain(how.program, EX_OK, "there is more; --limit says how much is shown (0: all)");
  return code;
}

}  // namespace postrider::cli
