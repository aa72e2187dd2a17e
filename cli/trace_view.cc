#include "cli/trace_view.h"

#include "cli/layout.h"
#include "cli/output.h"
#include "cli/views.h"

#include <boost/json/array.hpp>

#include <cstdio>

namespace postrider::cli {

namespace {

namespace json = boost::json;

constexpr const char* kDetail = "      ";

// What is known, with commas between.
class Details {
 public:
  Details& add(std::string_view before, const std::string& text) {
    if (!text.empty())
      text_.append(text_.empty() ? "" : ", ").append(before).append(text);
    return *this;
  }
  std::string line() const { return text_.empty() ? "" : kDetail + text_ + "\n"; }

 private:
  std::string text_;
};

std::string address(const json::object& step, const char* name) {
  const auto text = text_of(step, name);
  return text.empty() ? "<>" : text;
}

// "0.53 s", of a number that may have a fraction.
std::string seconds_of(const json::object& step, const char* name) {
  const auto* value = step.if_contains(name);
  if (value == nullptr || !value->is_number())
    return {};
  if (!value->is_double())
    return std::to_string(number_of(step, name)) + " s";
  char text[64];
  std::snprintf(text, sizeof text, "%.2g s", value->get_double());
  return text;
}

std::string time_and_word(const json::object& step) {
  const auto word = text_of(step, "event");
  return "  " + padded(with_local_times(text_of(step, "time")), 21) + padded(word, 15) +
         (word.size() < 15 ? "" : " ");
}

std::string client_of(const json::object& step) {
  const auto client = text_of(step, "client");
  const auto name = text_of(step, "client_name");
  return name.empty() || name == "unknown" ? client : name + " [" + client + "]";
}

std::string accepted(const json::object& step) {
  auto out = time_and_word(step) + "from " + address(step, "from") + "\n";
  const auto others = number_of(step, "nrcpt") - 1;
  auto to = text_of(step, "to");
  if (others > 0)
    to += " and " + counted(static_cast<std::uint64_t>(others), "other");
  out += Details().add("for ", to).line();
  out += Details()
             .add("by ", client_of(step))
             .add("HELO ", text_of(step, "helo"))
             .add("user ", text_of(step, "user"))
             .add("", text_of(step, "protocol"))
             .add("", text_of(step, "tls"))
             .add("session ", text_of(step, "session"))
             .line();
  Details last;
  if (step.contains("size"))
    last.add("", short_size(static_cast<std::uint64_t>(number_of(step, "size"))));
  return out + last.add("", text_of(step, "message_id")).line();
}

std::string rejected(const json::object& step) {
  auto out = time_and_word(step);
  if (step.contains("from"))
    out += "from " + address(step, "from");
  if (const auto to = text_of(step, "to"); !to.empty())
    out += std::string(step.contains("from") ? " " : "") + "to " + to;
  out += "\n" + Details()
                    .add("", client_of(step))
                    .add("HELO ", text_of(step, "helo"))
                    .add("", text_of(step, "protocol"))
                    .add("at ", text_of(step, "stage"))
                    .add("session ", text_of(step, "session"))
                    .line();
  return out + Details().add("", text_of(step, "reply")).line();
}

// An attempt, or what somebody did to one recipient.
std::string of_recipient(const json::object& step) {
  auto out = time_and_word(step) + text_of(step, "to") + "\n";
  const auto relay = text_of(step, "relay");
  Details way;
  if (relay != "none")
    way.add("", relay);
  const auto tls = text_of(step, "tls");
  way.add(tls.starts_with("TLS") ? "" : "TLS ", tls).add("", seconds_of(step, "delay"));
  way.add("delays ", text_of(step, "delays"));
  if (text_of(step, "reused") == "yes")
    way.add("", "connection used again");
  out += way.line();
  Details who;
  who.add("by ", text_of(step, "by"));
  if (step.contains("uid"))
    who.add("uid ", std::to_string(number_of(step, "uid")));
  out += who.line();
  return out + Details().add("", text_of(step, "reason")).line();
}

std::string notice(const json::object& step) {
  return time_and_word(step) + text_of(step, "notice") + " (" + text_of(step, "kind") + ") to " +
         address(step, "to") + "\n";
}

}  // namespace

std::string trace_heading(const json::object& message) {
  return text_of(message, "id") + "\n";
}

std::string trace_step(const json::object& step) {
  const auto event = text_of(step, "event");
  if (event == "accepted")
    return accepted(step);
  if (event == "rejected")
    return rejected(step);
  return event == "notice_created" ? notice(step) : of_recipient(step);
}

std::string trace_rest(const json::object& queued, std::int64_t now) {
  std::string out;
  const auto* recipients = array_of(queued, "recipients");
  for (std::size_t i = 0; recipients != nullptr && i < recipients->size(); ++i) {
    const auto* recipient = (*recipients)[i].if_object();
    if (recipient == nullptr)
      continue;
    out.append("  ").append(padded("now", 21)).append(text_of(*recipient, "address"));
    out.append(": ").append(recipient_state(*recipient, now)).append("\n");
    out.append(Details().add("", text_of(*recipient, "delay_reason")).line());
  }
  return out;
}

}  // namespace postrider::cli
