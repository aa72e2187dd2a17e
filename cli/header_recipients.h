// `sendmail -t`: recipients from the header. Pure.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::cli {

struct HeaderRecipients {
  std::vector<std::string> addresses;
  std::string header;        // the header section without Bcc and Resent-Bcc
  std::size_t consumed = 0;  // octets of the content that `header` stands for
};
// To, Cc and Bcc; only the Resent- fields if there is one of them (RFC 5322 §3.6.6).
Result<HeaderRecipients> header_recipients(std::string_view content);

}  // namespace postrider::cli
