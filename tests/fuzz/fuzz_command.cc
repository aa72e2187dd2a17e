// A command is accepted with clean values, or refused with one of the known codes and a text of
// our own.
#include "base/assert.h"
#include "base/text.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

using namespace postrider;
using namespace postrider::mail;

namespace {

void check_refusal(const Reply& reply) {
  POSTRIDER_ASSERT(reply.code == 501 || reply.code == 552 || reply.code == 553 ||
                   reply.code == 555);
  POSTRIDER_ASSERT(reply.enhanced.klass == 5 && reply.text.size() < 80 && is_ascii(reply.text));
}

void check_clean(std::string_view text) {
  POSTRIDER_ASSERT(std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  }));
}

void check_mail(std::string_view arguments) {
  const TimePoint now{std::chrono::days(20000)};
  const auto command = parse_mail(
      arguments, {.size_limit = 1000000, .now = now, .future_release = std::chrono::days(365)});
  if (!command)
    return check_refusal(command.error());
  if (const auto& release = command->release) {
    POSTRIDER_ASSERT(*release > now && *release <= now + std::chrono::days(365));
    POSTRIDER_ASSERT(parse_date_time(format_date_time(*release)) == release);
    POSTRIDER_ASSERT(!command->by || now + std::chrono::seconds(command->by->seconds) > *release);
  }
  if (const auto& by = command->by)
    POSTRIDER_ASSERT(std::abs(by->seconds) <= 999999999 && (!by->returns || by->seconds > 0));
  POSTRIDER_ASSERT(std::abs(command->priority.value_or(0)) <= 9);
  POSTRIDER_ASSERT(!command->size || *command->size <= 1000000);
  check_clean(command->sender);
  POSTRIDER_ASSERT(command->smtputf8 || is_ascii(command->sender));
  check_clean(command->envelope_id);
  POSTRIDER_ASSERT(decode_xtext(command->envelope_id).has_value());
  check_clean(command->auth.value_or(""));
}

void check_rcpt(std::string_view arguments, bool smtputf8) {
  const auto recipient = parse_rcpt(arguments, {.smtputf8 = smtputf8});
  if (!recipient)
    return check_refusal(recipient.error());
  POSTRIDER_ASSERT(!recipient->address.empty());
  check_clean(recipient->address);
  check_clean(recipient->original_recipient);
  POSTRIDER_ASSERT(recipient->notify.bits <= Notify::kNever);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const auto command = split_command(line);
  POSTRIDER_ASSERT(command.verb.size() + command.arguments.size() <= line.size());
  check_mail(command.arguments);
  check_rcpt(command.arguments, false);
  check_rcpt(command.arguments, true);
  if (const auto bdat = parse_bdat(command.arguments); !bdat)
    check_refusal(bdat.error());
  if (const auto helo = parse_helo(command.arguments))
    check_clean(*helo);
  else
    check_refusal(helo.error());
  if (const auto decoded = decode_xtext(line))
    POSTRIDER_ASSERT(decode_xtext(encode_xtext(*decoded)) == decoded);
  return 0;
}
