// Milter frames from both sides. What a filter sends, whatever it is, is taken through a whole
// conversation: no crash, nothing is sent after a filter has settled a message, and what it edits
// leaves a header section of whole fields. What we send is read back frame by frame.
#include "base/assert.h"
#include "mail/header.h"
#include "smtpd/filter/milter_edits.h"
#include "smtpd/filter/milter_session.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

using namespace postrider;
using namespace postrider::smtpd::filter;

namespace {

constexpr std::string_view kSection =
    "From: a@src.test\r\nTo: b@dst.test\r\nSubject: one\r\n two\r\nsubject: again\r\n";

void check_sent(std::string_view bytes) {
  milter::FrameReader reader;
  while (!bytes.empty()) {
    std::size_t used = 0;
    const auto frame = reader.feed(bytes, used);
    POSTRIDER_ASSERT(frame && *frame && used > 4);
    bytes.remove_prefix(used);
  }
}

class Play {
 public:
  explicit Play(std::string_view from_filter) : rest_(from_filter) {}

  // False: the filter broke the protocol, or has said all that it will.
  bool take(milter::Session::Step step) {
    check_sent(step.bytes);
    if (!step.waits)
      return true;
    for (;;) {
      std::size_t used = 0;
      auto frame = reader_.feed(rest_, used);
      rest_.remove_prefix(used);
      if (!frame || !*frame)
        return false;
      auto verdict = session.on_frame(**std::move(frame));
      if (!verdict)
        return false;
      if (!*verdict)
        continue;
      settled_ = (*verdict)->kind == Verdict::Kind::discard;
      POSTRIDER_ASSERT(!(*verdict)->refuses() ||
                       ((*verdict)->reply.code >= 400 && (*verdict)->reply.code < 600));
      return true;
    }
  }

  bool message() {
    const milter::Macros macros = {{"i", "4F2"}, {"{mail_addr}", "a@src.test"}};
    if (!take(session.mail("<a@src.test>", {"SIZE=9"}, macros)) ||
        !take(session.recipient("<b@dst.test>", {}, macros)) || !take(session.data(macros)))
      return false;
    mail::HeaderScanner scanner(kSection);
    mail::HeaderField field;
    while (scanner.next(field))
      if (!take(session.header(field.name, field.value)))
        return false;
    if (!take(session.end_of_header(macros)) || !take(session.body("line\r\n")) ||
        !take(session.body("line\r\n")) || !take(session.end(macros)))
      return false;
    POSTRIDER_ASSERT(session.end(macros).bytes.empty() && session.body("x").bytes.empty());
    apply(session.take_edits());
    return take(session.abort());
  }

  milter::Session session{milter::EditLimits{64, 4096, 65536}};

 private:
  void apply(const milter::Edits& edits) {
    POSTRIDER_ASSERT(!settled_ || edits.is_empty());
    milter::Fields fields{"Authentication-Results: us; none\r\n", std::string(kSection)};
    if (milter::apply_header_edits(edits.header, session.has_leading_space(), fields))
      for (const auto& section : {fields.on_top, fields.section}) {
        mail::HeaderScanner scanner(section);
        mail::HeaderField field;
        while (scanner.next(field))
          POSTRIDER_ASSERT(field.whole.ends_with("\r\n"));
        POSTRIDER_ASSERT(scanner.consumed() == section.size());
      }
    mail::Envelope envelope;
    envelope.sender = "a@src.test";
    envelope.recipients.push_back({"b@dst.test", {}, {}});
    if (milter::apply_envelope_edits(edits.envelope, {}, envelope))
      POSTRIDER_ASSERT(envelope.recipients.size() <= 1000);
  }

  std::string_view rest_;
  milter::FrameReader reader_;
  bool settled_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Play play(std::string_view(reinterpret_cast<const char*>(data), size));
  if (play.take(play.session.open()) &&
      play.take(play.session.connect("client.test", *IpAddress::parse("192.0.2.1"), 25,
                                     {{"j", "us.test"}})) &&
      play.take(play.session.helo("client.test", {})))
    while (play.message()) {
      // A filter that never answers would be told of messages for ever.
      if (!play.session.agreed().steps || play.session.has_left() ||
          (play.session.agreed().steps & milter::step::kSilentMail) != 0)
        break;
    }
  check_sent(play.session.quit().bytes);
  return 0;
}
