// Header sections (RFC 5322 §2.2, §3.6), read without building a tree. Linear, no recursion.
#pragma once

#include "base/time.h"
#include "mail/message_id.h"
#include "mail/precedence.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::mail {

struct HeaderField {
  std::string_view name;   // without the colon
  std::string_view value;  // behind the colon, folding kept, without the last CRLF
  std::string_view whole;  // with its last CRLF
};

// What a line is where a header section is read. This is the one judge of where a section ends:
// everything that reads, completes, converts or joins one asks it, so that all see the same end.
enum class HeaderLine : std::uint8_t {
  field,
  continuation,  // of the field above (RFC 5322 §2.2.3)
  mailbox_line,  // "From a@b Mon Nov 23 ...", from a mbox (RFC 4155) or UUCP (RFC 976): in the
                 // section, as the value of a field X-Mailbox-Line
  empty,         // the end
  indented,      // the end: white space with no field above that it could continue
  other          // the end, and the first line of the body
};
// No name of a field is longer: nor needs to be kept of a line to judge it.
constexpr std::size_t kMostOfFieldName = 997;
// line: with or without its end; first: nothing of the section stands above it.
HeaderLine judge_header_line(std::string_view line, bool first);
constexpr bool is_in_header(HeaderLine line) {
  return line <= HeaderLine::mailbox_line;
}
// The name of the field that begins with this line; empty if none does.
std::string_view field_name(std::string_view line);
// What must stand between header fields of ours and content that begins so. It never becomes part
// of the last field. A line that is none stays where it is in what passes through; where fields are
// added that may stand below it, it is body for everybody.
std::string_view header_joint(HeaderLine first_line, bool adds_fields);

// Walks the fields at the start of `content`; a mailbox_line is given as X-Mailbox-Line. Accepts LF
// alone as a line end (local submission before clean-up).
class HeaderScanner {
 public:
  explicit HeaderScanner(std::string_view content) : rest_(content) {}
  bool next(HeaderField& field);
  // Where the section ends and the empty line (if any) begins, once next() gave false.
  std::size_t consumed() const { return consumed_; }

 private:
  std::string_view rest_;
  std::size_t consumed_ = 0;
};

// What the first line of `content` is; empty also if there is none.
HeaderLine first_header_line(std::string_view content);
// Puts an empty line where the body begins without one, behind fields that were written by somebody
// who is not known to mean what others would read. Only for first submissions, and for what is
// judged here: what else passes through may be signed.
void end_header_cleanly(std::string& content);

// Facts that the receiving side needs, gathered from the first bytes of a message.
struct HeaderFacts {
  std::size_t received_fields = 0;
  bool has_date = false;
  bool has_message_id = false;
  bool has_from = false;
  bool tls_not_required = false;  // says "TLS-Required: No" (RFC 8689 §5)
  std::optional<Precedence> precedence;
  std::size_t size = 0;  // of the header section
  HeaderLine first_line = HeaderLine::empty;
};
HeaderFacts header_facts(std::string_view content);

// Whether a field says that delivery matters more than TLS: "TLS-Required: No" (RFC 8689 §5).
bool says_tls_not_required(std::string_view name, std::string_view value);

// The size of the header section with the empty line behind it; the whole if there is none.
std::size_t header_section_size(std::string_view content);

// RFC 5322 §3.3: "Mon, 23 Nov 2026 13:34:44 +0000", always in UTC.
std::string format_date(TimePoint when);

// RFC 5321 §4.4 with the protocol keywords of RFC 3848 and 6531.
struct TraceInfo {
  std::string helo;         // escaped when written (attacks.md O06)
  std::string client;       // address literal, "[192.0.2.1]" or "[IPv6:...]"; empty: local
  std::string client_name;  // verified name, or empty
  std::string by;           // our host name
  std::string protocol;     // "SMTP", "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA", "UTF8SMTP", ...
  std::string tls;          // "using TLSv1.3 with cipher ...", for a comment; or empty
  std::string tls_cipher;   // its registered name, for the clause of RFC 8314 §4.3; or empty
  std::string recipient;    // the "for" clause; empty if there are several
  int priority = 0;         // the clause of RFC 6710 §4.1; 0: none
  MessageId id;
  TimePoint when;
};
// "Received: from ... by ... with ESMTP id ...; date\r\n", folded, no line above 998 octets.
std::string received_field(const TraceInfo& info);

// "<20261123133444.4F2...@host>"
std::string make_message_id(MessageId id, std::string_view host);

// Local submission: bare LF and CRLF both become CRLF, bare CR becomes a space, NUL is dropped.
class LineEndCleaner {
 public:
  void feed(std::string_view in, std::string& out);
  void finish(std::string& out);  // a last line without an end gets one

 private:
  bool after_cr_ = false;
  bool at_line_start_ = true;
};

}  // namespace postrider::mail
