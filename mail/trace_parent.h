// The field "traceparent" of a header section: the trace of the sending application that a message
// belongs to, by W3C Trace Context. Pure; linear.
#pragma once

#include <string>
#include <string_view>

namespace postrider::mail {

inline constexpr std::string_view kTraceParent = "traceparent";  // of HTTP and brokers, too

// Version 00: "00-", 32 and 16 lower-case hexadecimal digits, not all of them 0, and 2 more.
bool is_trace_parent(std::string_view text);

// Reads the field line by line. It counts if it stands there once, is not folded, and is right. What is
// beyond 500 octets of a line may be missing.
class TraceParentField {
 public:
  void begin(std::string_view value);  // of a field of this name: what stands behind the colon
  void go_on() { value_.clear(); }     // a continuation of it
  const std::string& value() const { return value_; }  // empty: there is none

 private:
  std::string value_;
  bool is_there_ = false;
};

// The same of a whole header section.
std::string trace_parent_of(std::string_view header);

}  // namespace postrider::mail
