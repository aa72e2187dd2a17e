#include "smtpd/session/command_rules.h"

#include "base/text.h"

namespace postrider::smtpd {

namespace {

using State = SessionState;

constexpr std::uint8_t in(State state) {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(state));
}

constexpr std::uint8_t kAnywhere = 0xff;
constexpr auto kWithSender = static_cast<std::uint8_t>(in(State::sender) | in(State::recipients));
constexpr auto kEndsGroup = CommandRule::kEndsGroup;
constexpr auto kIsJunk = CommandRule::kIsJunk;
constexpr auto kMay8Bit = CommandRule::kMay8Bit;
constexpr auto kAlways = CommandRule::kAlways;

constexpr CommandRule kCommands[] = {
    // verb, name, allowed in, reply otherwise, traits; the most frequent ones first
    {Verb::mail, "MAIL", in(State::ready),
     "503 5.5.1 Send EHLO first, and one MAIL per message\r\n", kMay8Bit},
    {Verb::rcpt, "RCPT", kWithSender, "503 5.5.1 Send MAIL first\r\n", kMay8Bit},
    {Verb::data, "DATA", static_cast<std::uint8_t>(kWithSender | in(State::chunks)),
     "503 5.5.1 Send MAIL and RCPT first\r\n", kEndsGroup},
    {Verb::bdat, "BDAT", kAnywhere, "", 0},
    {Verb::ehlo, "EHLO", kAnywhere, "", kEndsGroup | kIsJunk | kMay8Bit},
    {Verb::helo, "HELO", kAnywhere, "", kEndsGroup | kIsJunk | kMay8Bit},
    {Verb::quit, "QUIT", kAnywhere, "", kAlways},
    {Verb::rset, "RSET", kAnywhere, "", kIsJunk},
    {Verb::noop, "NOOP", kAnywhere, "", kIsJunk},
    {Verb::vrfy, "VRFY", kAnywhere, "", kIsJunk | kMay8Bit},
    {Verb::help, "HELP", kAnywhere, "", kIsJunk},
    {Verb::expn, "EXPN", kAnywhere, "", kIsJunk},
    {Verb::starttls, "STARTTLS", kAnywhere, "", kEndsGroup},
    {Verb::auth, "AUTH", kAnywhere, "", kEndsGroup},
};

}  // namespace

const CommandRule* find_command(std::string_view verb) {
  for (const auto& command : kCommands)
    if (equals_ignoring_case(verb, command.name))
      return &command;
  return nullptr;
}

}  // namespace postrider::smtpd
