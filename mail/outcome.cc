#include "mail/outcome.h"

namespace postrider::mail {

namespace {

struct StageText {
  Stage stage;
  const char* phrase;       // for people: what we were doing
  const char* in_reply_to;  // as Postfix names the command; null: see reason()
};

// In the order of Stage.
constexpr StageText kStages[] = {
    {Stage::route, "finding a host for the domain", nullptr},
    {Stage::connect, "connecting", nullptr},
    {Stage::greeting, "waiting for the greeting", nullptr},
    {Stage::ehlo, "sending EHLO", "EHLO command"},
    {Stage::starttls, "starting TLS", "STARTTLS command"},
    {Stage::auth, "authenticating", "AUTH command"},
    {Stage::mail, "sending MAIL FROM", "MAIL FROM command"},
    {Stage::rcpt, "sending RCPT TO", "RCPT TO command"},
    {Stage::data, "sending DATA", "DATA command"},
    {Stage::body, "sending the content", "DATA command"},
    {Stage::body_end, "sending the end of the message (it may arrive twice)",
     "end of DATA command"},
    {Stage::local, "delivering on this machine", "end of DATA command"},
    {Stage::expired, "waiting in the queue", nullptr},
    {Stage::admin, "carrying out an administrator's command", nullptr},
};

const StageText& text_of(Stage stage) {
  return kStages[static_cast<std::size_t>(stage)];
}

// "mx1.example.org[192.0.2.1]:25" without the port.
std::string_view host_of(std::string_view remote) {
  const auto bracket = remote.rfind(']');
  return bracket == std::string_view::npos ? remote : remote.substr(0, bracket + 1);
}

}  // namespace

const char* phrase(Stage stage) {
  return text_of(stage).phrase;
}

std::string Outcome::reason() const {
  const bool ended_here = stage == Stage::expired || stage == Stage::admin;
  if (reply.code == 0 || (ended_here && !text.empty()))
    return text;
  std::string out = "host ";
  out.append(host_of(remote));
  if (remote.empty())
    out = "remote host";
  if (stage == Stage::greeting)
    return out.append(" refused to talk to me: ").append(reply.str());
  out.append(" said: ").append(reply.str());
  if (const char* command = text_of(stage).in_reply_to)
    out.append(" (in reply to ").append(command).append(")");
  return out;
}

}  // namespace postrider::mail
