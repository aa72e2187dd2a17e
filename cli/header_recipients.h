// `sendmail -t`: recipients from the header. Pure.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::cli {

struct HeaderRecipients {
  std::vector<std::string> addresses;
  std::vector<std::string> wrong;  // what could not be meant: sentences
  std::string header;              // the header section without Bcc and Resent-Bcc
  std::size_t consumed = 0;        // octets of the content that `header` stands for
};
// To, Cc and Bcc, without what is no address in them; only the Resent- fields if there is one of them (RFC 5322 §3.6.6).
Result<HeaderRecipients> header_recipients(std::string_view content);

// Where the header ends in content that comes in pieces: before the first line that mail/header.h
// does not take for one of its lines.
class HeaderEnd {
 public:
  // content: from its beginning, longer than the last time. True once a line behind the header is
  // there, or enough of it.
  bool is_past(std::string_view content);

 private:
  std::size_t looked_at_ = 0;  // whole lines of the header
  std::size_t searched_ = 0;   // no line ends before here
};

}  // namespace postrider::cli
