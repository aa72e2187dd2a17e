#include "web/trace_answer.h"

#include <boost/json/serialize.hpp>

#include <utility>

namespace postrider::web {

namespace json = boost::json;

namespace {

const json::object* object_in(const json::object& line, std::string_view name) {
  const auto* value = line.if_contains(name);
  return value == nullptr ? nullptr : value->if_object();
}

}  // namespace

TraceAnswer::TraceAnswer(bool rejected, std::size_t most_octets)
    : most_(most_octets), text_(rejected ? "{\"refused\":[" : "{\"messages\":[") {}

bool TraceAnswer::take(const json::object& line) {
  if (text_.size() >= most_) {
    has_more_ = true;
    return false;
  }
  if (const auto* message = object_in(line, "trace")) {
    end_message();
    const auto* id = message->if_contains("id");
    text_.append(std::exchange(before_message_, ",")).append("{\"id\":");
    text_.append(json::serialize(id == nullptr ? json::value("") : *id)).append(",\"events\":[");
    is_in_message_ = are_events_open_ = true;
    before_event_ = "";
  } else if (const auto* event = object_in(line, "event")) {
    if (!is_in_message_ || are_events_open_)
      text_.append(std::exchange(before_event_, ",")).append(json::serialize(*event));
  } else if (const auto* queued = object_in(line, "message")) {
    if (are_events_open_) {
      end_events();
      text_.append(",\"queued\":").append(json::serialize(*queued));
    }
  } else {
    has_more_ = has_more_ || line.contains("more");
  }
  return true;
}

void TraceAnswer::end_events() {
  if (std::exchange(are_events_open_, false))
    text_ += "]";
}

void TraceAnswer::end_message() {
  if (!std::exchange(is_in_message_, false))
    return;
  end_events();
  text_ += "}";
}

std::string TraceAnswer::document() {
  end_message();
  text_.append("],\"more\":").append(has_more_ ? "true" : "false").append("}");
  return std::move(text_);
}

}  // namespace postrider::web
