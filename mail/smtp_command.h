// SMTP commands as a server reads them (RFC 5321 §4.1, with the parameters of RFC 1870, 2852, 3030,
// 3461, 4865, 4954, 6152, 6531, 6710, 8689). Parsing only: whether a command is allowed now is the
// session's business.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mail/address.h"
#include "mail/delivery_wishes.h"
#include "mail/envelope.h"
#include "mail/reply.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::mail {

// "mail FROM:<a@b>" -> verb "mail", arguments "FROM:<a@b>". Trailing white space is dropped. The
// line has no CRLF and may hold any other byte.
struct CommandLine {
  std::string_view verb;
  std::string_view arguments;
};
CommandLine split_command(std::string_view line);

// A refusal is a Reply, with the code that RFC and attacks.md ask for (501, 552, 553, 555, ...).
template <class T>
using Parsed = boost::system::result<T, Reply>;

struct MailCommand {
  std::string sender;  // empty: null reverse-path
  std::optional<std::uint64_t> size;
  BodyType body = BodyType::seven_bit;
  bool body_given = false;
  bool smtputf8 = false;
  bool require_tls = false;
  Return ret = Return::unspecified;
  std::string envelope_id;          // ENVID, xtext as given, checked
  std::optional<std::string> auth;  // AUTH=, decoded; "<>" is empty
  std::optional<ByRequest> by;
  std::optional<TimePoint> release;  // HOLDFOR or HOLDUNTIL
  std::optional<std::int8_t> priority;
};
struct MailRules {
  std::uint64_t size_limit = 0;  // 552 5.3.4 above it
  bool smtputf8 = true;
  bool binary_mime = true;
  bool require_tls = false;  // RFC 8689: offered over TLS only
  bool lenient = false;      // as in PathRules
  std::string_view origin = {};
  bool wishes = true;            // RFC 2852 and 6710
  TimePoint now = {};            // from which times are counted
  Duration future_release = {};  // for how long mail may be held; 0: RFC 4865 is not offered
};
Parsed<MailCommand> parse_mail(std::string_view arguments, const MailRules& rules);

// ORCPT and ENVID are advice for notices, and NOTIFY's holes are nobody's intent: a fault in them
// that hides nothing costs the parameter, not the mail.
struct RcptRules {
  bool smtputf8 = false;  // whether MAIL asked for it
  bool lenient = false;   // as in PathRules
  std::string_view origin = {};
};
Parsed<Recipient> parse_rcpt(std::string_view arguments, const RcptRules& rules);
// What RCPT keeps of the value of ORCPT (RFC 3461 §4.2), at most 500 octets; empty if it is of no
// use. smtputf8: whether MAIL asked for it.
std::string original_recipient_of(std::string_view value, bool smtputf8);

struct BdatCommand {
  std::uint64_t size = 0;
  bool last = false;
};
Parsed<BdatCommand> parse_bdat(std::string_view arguments);

// EHLO and HELO: a domain or an address literal, at most 255 octets. Lenient about names that
// exist in practice (underscores, single labels), strict about controls, spaces and 8-bit.
Parsed<std::string> parse_helo(std::string_view arguments);

// RFC 3461 §4: xtext. decode refuses controls (attacks.md A16).
std::optional<std::string> decode_xtext(std::string_view text);
std::string encode_xtext(std::string_view text);

}  // namespace postrider::mail
