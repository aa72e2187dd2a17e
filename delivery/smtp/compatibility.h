// Whether a message fits what a remote can take, and how its content goes on the wire. Pure.
//
// Outbound line policy (attacks.md 2.2): content in the queue has CRLF line ends only, except
// BINARYMIME, which is sent by BDAT to hosts that offer BINARYMIME and is otherwise made 7-bit
// first. Should content hold a bare CR, LF or NUL all the same, it is never sent by DATA: the
// message bounces with 5.6.0. Lines above 998 octets that were let in go out unchanged: a fold
// would break signatures. A last line without an end gets its CRLF with DATA; BDAT counts, so the
// bytes go as they are.
#pragma once

#include "mail/message.h"
#include "mail/outcome.h"
#include "mail/reply.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// What EHLO said (RFC 5321 §4.1.1.1). Forgotten at each new EHLO (RFC 9422).
struct Capabilities {
  bool pipelining = false;
  bool chunking = false;
  bool binary_mime = false;
  bool eight_bit_mime = false;
  bool smtputf8 = false;
  bool dsn = false;
  bool size = false;
  bool starttls = false;
  bool require_tls = false;           // RFC 8689
  bool deliver_by = false;            // RFC 2852
  bool priorities = false;            // RFC 6710
  bool is_mailbox = false;            // LMTP: behind it, RFC 8689 asks nothing more
  std::vector<std::string> auth;      // SASL mechanisms, as offered
  std::uint64_t size_limit = 0;       // 0: none told
  std::uint32_t most_recipients = 0;  // LIMITS RCPTMAX; 0: none told
  std::uint32_t most_messages = 0;    // LIMITS MAILMAX
  std::uint32_t least_by = 0;         // seconds that BY has to leave in mode R; 0: none told
};
Capabilities parse_capabilities(const mail::Reply& reply);

struct Compatibility {
  enum class Kind : std::uint8_t { fits, needs_seven_bit, refused };
  Kind kind = Kind::fits;
  mail::Outcome refusal;    // verdict bounce
  bool is_of_host = false;  // of a refusal: another host of the domain may do
};
// converted: the content has been made 7-bit already. now: what is left of the time by which the
// message is wanted counts from here; without it none has passed.
Compatibility fit(const mail::Message& message, const std::vector<std::uint32_t>& recipients,
                  const Capabilities& capabilities, bool converted, const std::string& remote,
                  TimePoint now = {});

// The bounce of content that would break the line discipline.
mail::Outcome bare_line_end(const std::string& remote);

// "MAIL FROM:<...> SIZE=..." and "RCPT TO:<...> ..." with CRLF, with the parameters that the remote
// understands. Appended to out.
void append_mail(const mail::Message& message, const Capabilities& capabilities, bool converted,
                 std::uint64_t size, TimePoint now, std::string& out);
void append_rcpt(const mail::Message& message, std::uint32_t index,
                 const Capabilities& capabilities, std::string& out);

// Content that goes as BODY=BINARYMIME, by BDAT alone: no other may hold a bare line end or a NUL.
bool is_binary(const mail::Message& message, bool is_converted);

// What DATA needs to know of content, found in one pass over any splitting of it.
class LineScanner {
 public:
  void feed(std::string_view content);
  void finish();                                    // a CR at the very end is a bare one
  bool has_bare_line_end() const { return bare_; }  // or a NUL
  bool has_leading_dot() const { return dot_; }

 private:
  bool at_line_start_ = true;
  bool after_cr_ = false;
  bool bare_ = false;
  bool dot_ = false;
};

}  // namespace postrider::delivery
