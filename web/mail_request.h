// What an application asks for in POST /api/v1/messages: one message, of its parts or raw, as JSON
// (web/page/openapi.json describes it). All of it is outside bytes: nothing of it gets into the
// header of the message but by what folds and encodes, and a control character is refused wherever
// it stands. Pure.
#pragma once

#include "base/result.h"
#include "daemon/protocol/submit_protocol.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider::web {

struct MailRequest {
  daemon::SubmitHeader header;
  std::string content;
  std::string key;  // as the request itself gives it: the same when it comes again; empty: none
};

inline constexpr std::size_t kMostRequestRecipients = 1000;
inline constexpr std::size_t kMostRequestFields = 50;
inline constexpr std::size_t kMostRequestAttachments = 100;

// Errc::malformed, and its step is a sentence for who asked; the same with Errc::too_long beyond a
// limit.
Result<MailRequest> read_mail_request(std::string_view body);

// As a field of the HTTP request or of the broker's message has it. What the request says itself
// goes before it, and what is no traceparent of W3C Trace Context is passed over.
void set_trace_parent(MailRequest& request, std::string_view given);

}  // namespace postrider::web
