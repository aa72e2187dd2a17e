// The protocol by which Postfix asks policy services (SMTPD_POLICY_README), from the side that
// asks: attributes as lines, an empty line, and an answer of the same form. Pure; what a service
// answers is limited and checked.
#pragma once

#include "base/result.h"
#include "mail/reply.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::smtpd::filter::policy {

using Attributes = std::vector<std::pair<std::string, std::string>>;
// Values lose what would end their line.
std::string encode_request(const Attributes& attributes);

// One answer, as its octets arrive. Gives the value of `action` once its empty line is there; an
// error for more than 16 KiB, for a line that is not an attribute, and without an action.
class AnswerReader {
 public:
  static constexpr std::size_t kMost = 16384;
  Result<std::optional<std::string>> feed(std::string_view bytes);

 private:
  std::string text_;
};

struct Action {
  enum class Kind : std::uint8_t {
    none,             // DUNNO, OK
    note,             // INFO, WARN: `text` is for the log
    refuse,           // by `reply`
    defer_if_permit,  // by `reply`, unless what follows refuses
    defer_if_reject,  // by `reply`, if what follows refuses for good
    prepend,          // `text`: a whole header field, without its line end
    hold,             // `text`: why; may be empty
    discard,
    redirect,  // to the address `text` instead of all recipients
    bcc,       // `text` as one more recipient
    not_done   // what was said has no meaning here: `text` says why, and what helps
  };
  Kind kind = Kind::none;
  mail::Reply reply;
  std::string text;
};
// The actions of access(5). Those that nobody knows or that are not performed here, and those that
// lack an argument of the right form, are not_done: the message must not go on as if nothing had
// been said.
Action parse_action(std::string_view text);

}  // namespace postrider::smtpd::filter::policy
