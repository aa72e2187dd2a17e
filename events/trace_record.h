// What the trace keeps of mail: lines of the mail log (smtpd/receiving_log.h,
// delivery/delivery_log.h, queue/), as encode_fact() has them, each under the keys by which it is
// looked up. Pure; what is read back counts as hostile.
#pragma once

#include "base/log.h"
#include "base/time.h"
#include "queue/fact.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::events {

// Refused mail has room of its own: whoever is refused a million times pushes no other mail out.
enum class TraceLane : std::uint8_t { mail = 0, refused = 1 };  // Stored. Do not renumber.

// Whether the trace wants it; by its name and whom it is about, without decoding anything.
bool is_traced(const LogEvent& line);
// The line with its time.
std::string encode_trace(const LogEvent& line);

TraceLane lane_of(const queue::FactLine& line);

// Keys are numbers in which different texts may meet: who looks up compares what it finds.
using TraceKey = std::uint64_t;
TraceKey key_of_message(std::string_view id);          // a queue id, in any case
TraceKey key_of_message_id(std::string_view in_head);  // as bare_message_id() gives it
TraceKey key_of_sender(std::string_view address);
TraceKey key_of_recipient(std::string_view address);
// All addresses of a domain stand together: from the first to the last.
struct TraceKeyRange {
  TraceKey first = 0, last = 0;
};
TraceKeyRange keys_of_senders(std::string_view domain);
TraceKeyRange keys_of_recipients(std::string_view domain);

// Sorted, each once.
std::vector<TraceKey> keys_of(const queue::FactLine& line);

// A Message-ID without its brackets, comments left aside; of the header or as somebody typed it.
std::string_view bare_message_id(std::string_view text);

// Whether two addresses are the same to who looks for mail: without regard to case.
bool is_same_address(std::string_view a, std::string_view b);

// What a step is called: "delivered" where the log says attempted verdict=sent. As events have it.
std::string step_name(const queue::FactLine& line);
// {"time":...,"event":"delivered","id":...,...} with the names of the log, on one line.
std::string trace_json(const queue::FactLine& line);

}  // namespace postrider::events
