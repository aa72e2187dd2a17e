// Messages for tests of delivery.
#pragma once

#include "base/text.h"
#include "mail/header.h"
#include "mail/message.h"

#include <memory>
#include <string>
#include <vector>

namespace postrider::delivery {

inline std::shared_ptr<mail::Message> make_message(
    std::vector<std::string> recipients, std::string bytes = "Subject: test\r\n\r\nHello.\r\n",
    std::string sender = "from@sender.test") {
  auto message = std::make_shared<mail::Message>();
  static std::int64_t last = 1000;
  message->id.value = ++last;
  message->received = TimePoint(std::chrono::hours(24 * 365 * 50));
  message->envelope.sender = std::move(sender);
  for (auto& recipient : recipients)
    message->envelope.recipients.push_back({std::move(recipient), {}, {}});
  auto& content = message->content;
  content.trace = "Received: by us.test; now\r\n";
  content.size = bytes.size();
  content.has_8bit = !is_ascii(bytes);
  content.has_8bit_header =
      !is_ascii(std::string_view(bytes).substr(0, mail::header_section_size(bytes)));
  content.ends_with_crlf = bytes.empty() || bytes.ends_with("\r\n");
  content.bytes = std::make_shared<const std::string>(std::move(bytes));
  return message;
}

}  // namespace postrider::delivery
