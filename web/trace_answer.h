// The trace's answer as one document, as `postrider trace --json` has it:
//   {"messages":[{"id":"...","events":[{...},...],"queued":{...}},...],"more":false}
// or, of refused mail, {"refused":[{...},...],"more":false}. Its size is bounded. Pure.
#pragma once

#include <boost/json/object.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider::web {

class TraceAnswer {
 public:
  // rejected: steps belong to no message.
  explicit TraceAnswer(bool rejected, std::size_t most_octets = 4U << 20U);

  // Takes a line of the daemon's answer. False: no more is wanted, for the document is large
  // enough; then "more" is true, and the last message may lack steps.
  bool take(const boost::json::object& line);
  // Once.
  std::string document();

 private:
  void end_events();
  void end_message();

  const std::size_t most_;
  std::string text_;
  const char* before_message_ = "";
  const char* before_event_ = "";
  bool is_in_message_ = false, are_events_open_ = false;
  bool has_more_ = false;
};

}  // namespace postrider::web
