// What somebody asks the trace for. Pure.
#pragma once

#include "events/trace_record.h"

#include "base/result.h"

#include <optional>
#include <string>

namespace postrider::events {

// As it was typed; empty or nothing does not restrict.
struct TraceWords {
  std::string target;  // a queue id, an address, "@domain", "<>", or a Message-ID
  std::optional<std::string> from, to;
  std::string since;  // "2h", "2026-11-29", "2026-11-29T13:05"
  bool rejected = false;
};

// All that is given must hold.
struct TraceQuery {
  std::string id;                       // a queue id
  std::optional<std::string> any;       // sender, recipient or Message-ID, without brackets
  std::optional<std::string> from, to;  // an address, "@domain", or empty for the null sender
  std::optional<TimePoint> since;
  bool rejected = false;  // refused mail, instead of messages

  bool matches_all() const { return id.empty() && !any && !from && !to; }
};

// The error's step is a sentence. Dates and times without "Z" are local ones.
Result<TraceQuery> parse_trace_query(const TraceWords& words, TimePoint now);
Result<TimePoint> parse_since(const std::string& text, TimePoint now);

// Whether an address is one that the pattern of a query means.
bool is_meant(std::string_view pattern, std::string_view address);
// Whether a step by itself is what is asked for, apart from the message's id; or names the Message-ID.
bool is_match(const TraceQuery& query, const queue::FactLine& step);
bool has_message_id(const TraceQuery& query, const queue::FactLine& step);
// Whether a step of a message that was found belongs to the answer: those of other recipients do
// not.
bool is_shown(const TraceQuery& query, const queue::FactLine& step);

}  // namespace postrider::events
