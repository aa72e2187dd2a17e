// One conversation with a milter, from its negotiation to QUIT, with the messages of one SMTP
// session in it. Pure: it says what to send and what an answer means; somebody else has the socket
// and the time.
//
//   auto step = session.open();          write step.bytes; if step.waits, then for each frame:
//   auto verdict = session.on_frame(f);  nothing: another frame comes; an error: the end of it all
//   step = session.connect(...); ...     in the order of SMTP, helo as often as it comes
//   step = session.mail(...); recipient data header* end_of_header body* end; then abort
//
// A filter that wants no more of a message, or has settled it, is sent nothing more of it: its
// steps are empty. Some filters never answer again once they have.
#pragma once

#include "smtpd/filter/milter_protocol.h"
#include "smtpd/session/filter_verdict.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::smtpd::filter::milter {

// Of one message.
struct EditLimits {
  std::size_t count = 4096;                 // of all but pieces of a body
  std::size_t bytes = 1024UL * 1024;        // of names, values and addresses together
  std::uint64_t body = 64UL * 1024 * 1024;  // of a new body, with its frames
};

// What a filter wants done to a message, in its order.
struct Edits {
  std::vector<Edit> header;    // add, insert, change
  std::vector<Edit> envelope;  // recipients and the sender
  std::optional<std::string> body;
  std::optional<std::string> quarantine;  // the reason
  bool is_empty() const { return header.empty() && envelope.empty() && !body && !quarantine; }
};

class Session {
 public:
  // version: the newest that is offered.
  explicit Session(EditLimits limits = {}, std::uint32_t version = kVersion);

  struct Step {
    std::string bytes;   // empty: nothing is sent
    bool waits = false;  // for on_frame() to give a verdict
  };
  Step open();
  // macros: all that are known then; those that the filter asks for are sent, or else the usual
  // ones.
  Step connect(std::string_view name, const IpAddress& address, std::uint16_t port,
               const Macros& macros);
  Step helo(std::string_view name, const Macros& macros);
  // path: with its brackets; args: "SIZE=1000".
  Step mail(std::string_view path, std::vector<std::string> args, const Macros& macros);
  Step recipient(std::string_view path, std::vector<std::string> args, const Macros& macros);
  Step data(const Macros& macros);
  // value: all that stands behind the colon, folded with CRLF, without its last CRLF.
  Step header(std::string_view name, std::string_view value);
  Step end_of_header(const Macros& macros);
  Step body(std::string_view piece);  // at most kMostBodyInFrame
  Step end(const Macros& macros);
  // The message has ended, in whatever way.
  Step abort();
  Step quit();

  // Takes what the filter sends while a step waits. Only then: what comes unasked is an error.
  Result<std::optional<Verdict>> on_frame(Frame frame);

  bool is_waiting() const { return waits_for_ != 0; }
  char waits_for() const { return waits_for_; }  // the command that is to be answered; 0: none
  bool has_left() const { return has_left_; }    // for the session
  bool wants_header() const;                     // of this message, and body()
  bool wants_body() const;
  // Values of edits hold their leading space.
  bool has_leading_space() const { return (agreed_.steps & step::kLeadingSpace) != 0; }
  const Negotiation& agreed() const { return agreed_; }
  // Of a message that end() has settled with go_on. Once.
  Edits take_edits();
  // The part of a new body that has come since, while end() waits; none: there is none. Who takes
  // it keeps it.
  std::string take_body();
  // Octets that edits hold now.
  std::size_t held() const;

 private:
  Step send(char command, std::string bytes, std::uint32_t silent);
  bool is_wanted(std::uint32_t unwanted, bool of_message) const;
  std::string macro_frame(MacroStage stage, char command, const Macros& macros) const;
  Result<std::optional<Verdict>> negotiated(const Frame& frame);
  Result<std::optional<Verdict>> judged(char stage, Answer answer);
  Result<std::optional<Verdict>> collect(char stage, Edit edit);

  EditLimits limits_;
  Negotiation offer_;
  Negotiation agreed_;
  char waits_for_ = 0;    // the command that is to be answered
  bool is_open_ = false;  // negotiated
  bool has_left_ = false;
  bool in_message_ = false;  // it was told of one
  bool is_done_ = false;     // with the message
  bool skips_header_ = false, skips_body_ = false;
  Edits edits_;
  std::size_t edit_count_ = 0, edit_bytes_ = 0, body_bytes_ = 0;
};

}  // namespace postrider::smtpd::filter::milter
