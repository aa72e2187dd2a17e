// Mail that carries a report of a day to another domain, and how it is sent. What every kind of
// report has in common.
#pragma once

#include "base/net/task.h"
#include "base/result.h"
#include "base/time.h"
#include "mail/message_id.h"

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

namespace postrider::delivery {

using Day = std::chrono::sys_days;

struct ReportMail {
  std::string sender, recipient;
  mail::MessageId id;
  std::string text;
  bool needs_no_tls = false;  // it must arrive although TLS does not work
};

// What the daemon gives: ids, and custody of a message.
struct ReportPost {
  std::function<mail::MessageId()> next_id;
  std::function<Task<Result<void>>(ReportMail mail)> submit;
};

// RFC 1952.
std::string gzip(std::string_view bytes);

// A report as an attachment behind a sentence for people. All texts are ours or checked: they go
// into the header as they are.
struct AttachedReport {
  std::string contact;    // an address, which is also the sender
  std::string submitter;  // our host name
  std::string to;
  std::string subject;       // folded
  std::string fields = {};   // further ones, each with its CRLF
  std::string content_type;  // of the whole: "multipart/mixed"
  std::string boundary;
  std::string sentence;  // one or more lines, each with its CRLF
  std::string part_type;
  std::string file;
};

// The attachment in Base64, in lines: of what a size limit speaks.
std::string attachment_text(std::string_view compressed);

// The whole message, CRLF line ends, 7-bit.
std::string report_message(const AttachedReport& report, std::string_view attachment,
                           mail::MessageId id, TimePoint now);

}  // namespace postrider::delivery
