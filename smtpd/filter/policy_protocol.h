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
    none,     // DUNNO, OK, what only logs, and what has no meaning here
    refuse,   // by `reply`
    prepend,  // `text`: a whole header field, without its line end
    hold,     // `text`: why; may be empty
    discard,
    redirect,  // to the address `text` instead of all recipients
    bcc        // `text` as one more recipient
  };
  Kind kind = Kind::none;
  mail::Reply reply;
  std::string text;
};
// Fails for words that nobody knows and for what lacks its argument.
Result<Action> parse_action(std::string_view text);

}  // namespace postrider::smtpd::filter::policy
