#include "daemon/predecessor/old_message.h"

#include "base/text.h"
#include "daemon/protocol/submit_protocol.h"
#include "mail/address.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <cstring>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostEnvelopeId = 400;
constexpr std::size_t kMostClient = 300;
constexpr std::size_t kMostProtocol = 20;

}  // namespace

OldFile file_of(std::string_view text) {
  return {text.size(),
          [text](std::uint64_t at, char* room, std::size_t most) -> Result<std::size_t> {
            if (at >= text.size())
              return std::size_t{0};
            const auto size = std::min<std::size_t>(most, text.size() - at);
            std::memcpy(room, text.data() + at, size);
            return size;
          }};
}

Result<std::string> read_whole(const OldFile& file, std::size_t most) {
  if (file.size > most)
    return Error(Errc::too_long, "it is larger than " + format_size(most));
  std::string text(file.size, '\0');
  for (std::size_t at = 0; at < text.size();) {
    auto got = file.read(at, text.data() + at, text.size() - at);
    if (!got)
      return got.error();
    if (*got == 0)
      return Error(Errc::malformed, "it is cut off");
    at += *got;
  }
  return text;
}

std::size_t OldMessage::waiting() const {
  std::size_t sum = 0;
  for (const auto& envelope : envelopes)
    sum += envelope.recipients.size();
  return sum;
}

Result<void> OldRecipients::add(OldMessage& message, const mail::Envelope& form,
                                std::string_view address, std::string_view sender,
                                mail::Notify notify, std::string original) {
  if (++count_ > kMost)
    return Error(Errc::malformed, "it has more than " + std::to_string(kMost) + " recipients");
  auto whole = complete_address(std::string(address), origin_);
  if (!whole)
    return whole.error().during("recipient");
  std::string from;
  if (!sender.empty()) {
    auto completed = complete_address(std::string(sender), origin_);
    if (!completed)
      return completed.error().during("sender");
    from = *std::move(completed);
  }
  auto& envelopes = message.envelopes;
  const auto [place, is_new] = of_sender_.emplace(from, envelopes.size());
  if (is_new) {
    auto& fresh = envelopes.emplace_back(form);
    fresh.recipients.clear();
    fresh.sender = from;
    fresh.smtputf8 = fresh.smtputf8 || !is_ascii(from);
  }
  auto* found = &envelopes[place->second];
  found->smtputf8 = found->smtputf8 || !is_ascii(*whole);
  auto& recipient = found->recipients.emplace_back();
  recipient.address = *std::move(whole);
  recipient.notify = notify;
  recipient.original_recipient = mail::original_recipient_of(original, found->smtputf8);
  return {};
}

mail::Notify notify_of(std::uint64_t flags, const NotifyBits& bits) {
  mail::Notify notify;
  const auto set = [&](std::uint64_t flag, std::uint8_t bit) {
    if ((flags & flag) != 0)
      notify.bits = static_cast<std::uint8_t>(notify.bits | bit);
  };
  set(bits.success, mail::Notify::kSuccess);
  set(bits.failure, mail::Notify::kFailure);
  set(bits.delay, mail::Notify::kDelay);
  if ((flags & bits.never) != 0)
    notify.bits = mail::Notify::kNever;
  return notify;
}

std::string quoted_address(std::string_view meaning) {
  const auto at = meaning.rfind('@');
  std::string address = mail::quoted_local_part(meaning.substr(0, at));
  if (at != meaning.npos)
    address.append(meaning.substr(at));
  return address;
}

std::string envelope_id_of(std::string_view meaning) {
  auto encoded = mail::encode_xtext(meaning);
  return encoded.size() <= kMostEnvelopeId && mail::decode_xtext(encoded) ? encoded : "";
}

std::string client_of(std::string_view helo, std::string_view address) {
  if (address.empty())
    return "local";
  return escaped(helo, kMostClient) + "[" + escaped(address, kMostClient) + "]";
}

std::string protocol_name(std::string_view name, bool logged_in) {
  std::string text;
  for (const char c : name.substr(0, kMostProtocol)) {
    const bool is_letter = ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
    if (!is_letter && (c < '0' || c > '9'))
      return "SMTP";
    text.push_back(ascii_lower(c) == c && is_letter ? static_cast<char>(c - 'a' + 'A') : c);
  }
  // RFC 3848: the A stands for AUTH.
  return text + (logged_in && !text.empty() && !text.ends_with('A') ? "A" : "");
}

}  // namespace postrider::daemon
