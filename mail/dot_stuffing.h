// The sender's side of RFC 5321 §4.5.2.
#pragma once

#include <string>
#include <string_view>

namespace postrider::mail {

// Prepares content for DATA: a dot more at the start of each line that begins with one. Works on
// any splitting of the content; call finish() for the end, which adds a CRLF if the last line has
// none, and then ".\r\n".
class DotStuffer {
 public:
  void feed(std::string_view in, std::string& out);
  void finish(std::string& out);

 private:
  void take_block(std::string_view block, std::string& out);

  bool at_line_start_ = true;
  bool after_cr_ = false;
};

// Whether content needs any stuffing, so that the usual message is sent as it is, without a copy.
bool has_leading_dot(std::string_view content);

}  // namespace postrider::mail
