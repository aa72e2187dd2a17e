// A whole conversation from arbitrary bytes, cut at arbitrary places. However the bytes are cut,
// the replies to commands that waited are the same; every message that is kept is what the oracle
// of attacks.md 2.1 makes of the bytes; replies are well formed and never echo.
//
// The first octet seeds the cuts; the rest is what the client sends.
#include "base/assert.h"
#include "base/memory_only.h"
#include "smtpd/session/session_framer.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace postrider;
using smtpd::SessionFramer;
using State = smtpd::Session::State;

class Everybody : public mail::Directory {
 public:
  bool is_local_domain(std::string_view domain) const override { return domain == "us.test"; }
  // Who begins with s has to be asked for.
  Answer lookup(std::string_view local_part, std::string_view) const override {
    if (local_part.starts_with('s') && MemoryOnly::forbids_waiting())
      return Answer::cannot_tell;
    return local_part == "nobody" ? Answer::unknown : Answer::known;
  }
};

std::shared_ptr<const smtpd::Policy> make_policy() {
  auto settings = std::make_shared<smtpd::SessionSettings>();
  settings->hostname = "mx.us.test";
  settings->message_size = 2000;
  settings->directory = std::make_shared<const Everybody>();
  settings->limits.header_size = 500;
  settings->limits.received_fields = 5;
  return std::make_shared<const smtpd::Policy>(settings);
}

void check_replies(std::string_view replies) {
  while (!replies.empty()) {
    const auto end = replies.find("\r\n");
    POSTRIDER_ASSERT(end != std::string_view::npos && end >= 4);
    const auto line = replies.substr(0, end);
    POSTRIDER_ASSERT(line[0] >= '2' && line[0] <= '5' && (line[3] == ' ' || line[3] == '-'));
    for (const char c : line)
      POSTRIDER_ASSERT(c >= ' ' && c <= '~');
    replies.remove_prefix(end + 2);
  }
}

// Messages must be legal for what became of them, and the state must be one of the model's.
void check_state(const SessionFramer& talk) {
  const auto& session = talk.session();
  const auto& envelope = session.transaction().envelope();
  switch (session.state()) {
    case State::start:
    case State::ready:
      POSTRIDER_ASSERT(envelope.sender.empty() && envelope.recipients.empty());
      break;
    case State::sender:
      POSTRIDER_ASSERT(envelope.recipients.empty());
      break;
    case State::recipients:
    case State::chunks:
      POSTRIDER_ASSERT(!envelope.recipients.empty() && envelope.recipients.size() <= 1000);
      break;
    case State::failed:
      break;
  }
  POSTRIDER_ASSERT(session.state() == State::start || !session.facts().helo.empty());
}

struct Outcome {
  std::string replies;
  std::vector<std::string> kept;
  bool closed = false;
};

void check_kept(std::string_view content, const smtpd::IncomingContent& intake) {
  POSTRIDER_ASSERT(content.size() == intake.facts().size && content.size() <= 2000);
  POSTRIDER_ASSERT(intake.header().received_fields() < 5);
}

Outcome run(const std::shared_ptr<const smtpd::Policy>& policy, std::string_view bytes,
            unsigned seed) {
  SessionFramer talk(smtpd::Session(policy, {}, smtpd::Role::mx, "ID", nullptr));
  Outcome outcome;
  (void)talk.open(outcome.replies);
  while (!bytes.empty() && !outcome.closed) {
    seed = seed * 1103515245U + 12345U;
    const auto size = seed == 0 ? bytes.size() : 1 + (seed >> 16U) % 40;
    auto piece = bytes.substr(0, size);
    bytes.remove_prefix(piece.size());
    for (;;) {
      std::size_t used = 0;
      std::string replies;
      auto need = talk.take(piece, used, replies);
      POSTRIDER_ASSERT(used <= piece.size());
      piece.remove_prefix(used);
      outcome.replies += replies;
      if (need == SessionFramer::Need::store) {
        const bool binary =
            talk.session().transaction().envelope().body == mail::BodyType::binary_mime;
        const std::string content = talk.intake()->bytes();
        check_kept(content, *talk.intake());
        for (std::size_t i = 0; i < content.size() && !binary; ++i) {
          POSTRIDER_ASSERT(content[i] != '\0');
          POSTRIDER_ASSERT((content[i] == '\n') == (i > 0 && content[i - 1] == '\r'));
        }
        outcome.kept.push_back(content);
        (void)talk.stored(smtpd::Storage::open, mail::MessageId{1}, outcome.replies);
      }
      if (need == SessionFramer::Need::look_up) {
        replies.clear();
        need = talk.looked_up(
            talk.session().facts().policy->judge(talk.session().transaction().question()), replies);
        outcome.replies += replies;
      }
      check_state(talk);
      outcome.closed = need == SessionFramer::Need::close;
      if (need == SessionFramer::Need::input || outcome.closed)
        break;
    }
  }
  check_replies(outcome.replies);
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto policy = make_policy();
  if (size < 2)
    return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto cut = run(policy, bytes, data[0] + 1U);
  // Only "out of step" depends on the cuts, and it closes.
  const auto other = run(policy, bytes, data[0] + 77U);
  if (!cut.closed && !other.closed)
    POSTRIDER_ASSERT(cut.replies == other.replies && cut.kept == other.kept);
  return 0;
}
