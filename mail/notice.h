// Delivery status notifications (RFC 3461, 3462, 3464, 6522, 6533): failure, delay, and relayed or
// delivered notices as ordinary messages with a null sender.
#pragma once

#include "base/time.h"
#include "mail/message.h"
#include "mail/outcome.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mail {

enum class NoticeKind : std::uint8_t { failure, delay, success };

// The field that tells of double bounces bear, and by which they are known again.
inline constexpr const char* kDoubleBounceMark = "X-Postrider-Notice: double-bounce";
// Whether the header section at the beginning of this text has it.
bool is_about_double_bounces(std::string_view text);

// Of notice_message(), in Origin::protocol; no session has it.
inline constexpr const char* kNoticeProtocol = "notice";

struct NoticeRecipient {
  Recipient recipient;
  Outcome outcome;
  TimePoint last_attempt;
  TimePoint will_retry_until;     // delay only
  const char* action = "failed";  // RFC 3464 §2.3.3: failed, delayed, delivered, relayed, expanded
};

struct NoticeInput {
  NoticeKind kind = NoticeKind::failure;
  const Message* original = nullptr;
  // What is at hand of the bytes of the original, all or their beginning; its Content::trace is put
  // before them here.
  std::string_view original_text;
  bool original_complete = true;
  std::vector<NoticeRecipient> recipients;  // at least one
  std::string reporting_mta;                // our host name
  std::string boundary;                     // unique, from the caller
  MessageId id;                             // of the notice
  TimePoint now;
  std::string to;  // the original's sender, or postmaster for a double bounce
};

// The whole text, CRLF line ends: headers, a part for people, message/delivery-status (or
// global-delivery-status), and the original as RET says: headers, or all of it up to 50,000 octets.
// Headers alone too where all of it would need 8BITMIME and could not be converted for a hop that
// does not offer it (RFC 3461 §6.2 leaves that to us). 7-bit unless the original needs 8 bits or
// UTF-8: the caller looks at the result for its Content.
std::string compose_notice(const NoticeInput& input);

// A notice by compose_notice() that quotes all of its original, with the headers of that alone; its
// end may be missing. Null: it quotes no more than headers, or is none.
std::optional<std::string> without_body(std::string_view notice);

// The message with that text and a null sender. RFC 8689 §5: a notice about a message under
// REQUIRETLS travels under it too; RFC 6710 §6: and with its priority.
std::shared_ptr<const Message> notice_message(std::string text, MessageId id, std::string to,
                                              TimePoint now, TlsWish tls, std::int8_t priority = 0);

}  // namespace postrider::mail
