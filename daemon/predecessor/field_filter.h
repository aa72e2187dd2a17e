// Leaves header fields out of content that passes by.
#pragma once

#include <string>
#include <string_view>

namespace postrider::daemon {

// Of what a local user handed in: Bcc and Resent-Bcc, which nobody but the sender is to see. Any
// splitting of the octets; lines end in LF or CRLF.
class BccFilter {
 public:
  void feed(std::string_view in, std::string& out);
  void finish(std::string& out);

 private:
  void take_line(std::string_view line, std::string& out);

  std::string line_;  // so far
  bool in_header_ = true, is_first_ = true, leaves_out_ = false;
};

}  // namespace postrider::daemon
