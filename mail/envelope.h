// The envelope of a message (RFC 5321 §2.3.1, with the parameters of RFC 2852, 3461, 4865 and 6710):
// what MAIL and RCPT said, kept unchanged while the message is in our custody.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mail/message_id.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mail {

// Stored. Do not renumber.
enum class BodyType : std::uint8_t { seven_bit = 0, eight_bit_mime = 1, binary_mime = 2 };
enum class Return : std::uint8_t { unspecified = 0, full = 1, headers = 2 };

// How much TLS the sender asks for on the way (RFC 8689): `required` by REQUIRETLS, `optional` by
// the field "TLS-Required: No", which counts only without REQUIRETLS. Stored. Do not renumber.
enum class TlsWish : std::uint8_t { unspecified = 0, required = 1, optional = 2 };

// RFC 3461 §4.1: when the sender wants to hear. Stored. Do not renumber.
struct Notify {
  static constexpr std::uint8_t kSuccess = 1, kFailure = 2, kDelay = 4, kNever = 8;
  std::uint8_t bits = 0;  // 0: not given, which means failure, and delay as we choose
  bool success() const { return (bits & kSuccess) != 0; }
  bool failure() const { return bits == 0 || (bits & kFailure) != 0; }
  bool delay() const { return bits == 0 || (bits & kDelay) != 0; }
  friend bool operator==(const Notify&, const Notify&) = default;
};

struct Recipient {
  std::string address;  // as given: local part and domain unchanged; "postmaster" may stand alone
  std::string original_recipient;  // ORCPT as given, "rfc822;..." in xtext; empty if not given
  Notify notify;
  // Where delivery decided that this mail ends, in its own words
  // (delivery/local/addresses/resolved_recipient.h); empty for what came from outside, whatever it
  // says.
  std::string leaf = {};
  friend bool operator==(const Recipient&, const Recipient&) = default;
};

// RFC 2852 §4: by when the sender wants the message delivered, and what is to happen when it is not.
// Whole seconds.
struct DeliverBy {
  TimePoint time;
  bool returns =
      false;  // mode R: late mail goes back; otherwise N: the sender hears that it is late
  bool traces = false;  // T: the sender hears of each host that has it
  friend bool operator==(const DeliverBy&, const DeliverBy&) = default;
};

struct Envelope {
  std::string sender;  // empty: the null reverse-path
  std::vector<Recipient> recipients;
  std::string envelope_id;  // ENVID in xtext; empty if not given
  Return ret = Return::unspecified;
  BodyType body = BodyType::seven_bit;
  bool smtputf8 = false;
  TlsWish tls = TlsWish::unspecified;
  std::optional<DeliverBy> deliver_by = {};
  TimePoint release = {};  // FUTURERELEASE (RFC 4865): not tried before; 0: at once. Whole seconds.
  std::int8_t priority = 0;  // MT-PRIORITY (RFC 6710): -9 to 9
  friend bool operator==(const Envelope&, const Envelope&) = default;
};

// The compact form kept in the queue's database; decode refuses anything malformed (our own
// database counts as hostile).
std::string encode(const Envelope& envelope);
Result<Envelope> decode_envelope(std::string_view bytes);

// Domain of an address, lower case, as DNS and routes want it: A-labels for a name with U-labels,
// "[192.0.2.1]" for a literal, empty for "postmaster" without a domain.
std::string domain_of(std::string_view address);
std::string_view local_part_of(std::string_view address);

}  // namespace postrider::mail
