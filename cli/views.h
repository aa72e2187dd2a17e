// The daemon's lines as people read them. Pure; each takes the objects of
// daemon/control/control_service.h's answers.
#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>

namespace postrider::cli {

// `postrider queue`: a line for the message, one for each recipient.
std::string queue_heading();
std::string queue_row(const boost::json::object& message, std::int64_t now);

// `postrider show`, without the recipients.
std::string message_view(const boost::json::object& message);
std::string envelope_view(const boost::json::object& envelope);
// A recipient's state in a sentence: "deferred, next attempt in 4m (3 so far)".
std::string recipient_state(const boost::json::object& recipient, std::int64_t now);

std::string attempt_view(const boost::json::object& attempt);
std::string status_view(const boost::json::object& status);
// What happened in a second between two of them, so many apart: a line, or none if one of them does
// not say, as before the first, or the daemon has begun again.
std::string rate_row(const boost::json::object& before, const boost::json::object& status,
                     double seconds);
// Of what the daemon reports about itself: that it takes no mail, and whatever else stands above all.
bool is_accepting(const boost::json::object& status);
bool has_alarm(const boost::json::object& status);

}  // namespace postrider::cli
