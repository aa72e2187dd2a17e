// `postrider trace`: the story of a message, step by step, as people read it. Pure; takes the lines
// of the daemon's answer.
#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>

namespace postrider::cli {

// The line with which a message begins: its queue id.
std::string trace_heading(const boost::json::object& message);
// A step of it, or refused mail.
std::string trace_step(const boost::json::object& step);
// What the queue still has of it.
std::string trace_rest(const boost::json::object& queued, std::int64_t now);

}  // namespace postrider::cli
