#include "mailauth/srs.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/digest.h"
#include "base/text.h"
#include "mail/address.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kMostOfMailbox = 254;  // RFC 5321 §4.5.3.1.3, without the brackets
constexpr std::size_t kTag = 4;              // "SRS0"
constexpr unsigned kSlots = 1024;            // days that can be told apart
constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

unsigned day_of(TimePoint now) {
  const auto hours = std::chrono::duration_cast<std::chrono::hours>(now.time_since_epoch()).count();
  return static_cast<unsigned>(hours / 24 % kSlots);
}

std::string stamp_of(TimePoint now) {
  const auto day = day_of(now);
  return {kDigits[day / kDigits.size()], kDigits[day % kDigits.size()]};
}

std::optional<unsigned> day_of_stamp(std::string_view stamp) {
  if (stamp.size() != 2)
    return std::nullopt;
  unsigned day = 0;
  for (const char c : stamp) {
    const char upper = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    const auto digit = kDigits.find(upper);
    if (digit == std::string_view::npos)
      return std::nullopt;
    day = day * static_cast<unsigned>(kDigits.size()) + static_cast<unsigned>(digit);
  }
  return day;
}

// Parts up to the next "="; the last is the rest. Nothing if there are fewer, or an
// empty one in front of the rest.
template <std::size_t Count>
std::optional<std::array<std::string_view, Count>> parts_of(std::string_view text) {
  std::array<std::string_view, Count> parts;
  for (std::size_t i = 0; i + 1 < Count; ++i) {
    const auto end = text.find('=');
    if (end == std::string_view::npos || end == 0)
      return std::nullopt;
    parts[i] = text.substr(0, end);
    text.remove_prefix(end + 1);
  }
  parts[Count - 1] = text;
  return parts;
}

bool has_tag(std::string_view meaning, char digit) {
  return meaning.size() > kTag + 1 && starts_with_ignoring_case(meaning, "SRS") &&
         meaning[kTag - 1] == digit &&
         std::string_view("=+-").find(meaning[kTag]) != std::string_view::npos;
}

// Whether this follows "SRS0" in an address that its host may reverse: "=HHHH=TT=a.test=ann".
bool is_behind_first(std::string_view text) {
  return !text.empty() && std::string_view("=+-").find(text.front()) != std::string_view::npos &&
         parts_of<4>(text.substr(1));
}

struct Mailbox {
  std::string meaning;  // of the local part, without quotes
  std::string domain;   // A-labels
};

Result<Mailbox> split_mailbox(const std::string& text) {
  const auto parsed = mail::parse_mailbox(text, true);
  if (!parsed || parsed->rfind('@') == std::string::npos)
    return malformed("'" + text + "' is not a mailbox");
  const auto at = parsed->rfind('@');
  Mailbox mailbox{mail::unquoted_local_part(parsed->substr(0, at)), parsed->substr(at + 1)};
  if (is_ascii(mailbox.domain))
    return mailbox;
  auto domain = mail::to_ascii_domain(mailbox.domain);
  if (!domain)
    return domain.error();
  mailbox.domain = std::move(*domain);
  return mailbox;
}

Result<std::string> joined_mailbox(std::string_view meaning, std::string_view domain) {
  auto mailbox = mail::quoted_local_part(std::string(meaning)).append("@").append(domain);
  if (mailbox.size() > kMostOfMailbox)
    return Error(Errc::too_long, "a mailbox of more than 254 octets");
  if (!mail::parse_mailbox(mailbox, true))
    return malformed("what was rewritten is not a mailbox");
  return mailbox;
}

// The address that reversing an SRS1 address of these parts gives: hash, host, user.
Result<std::string> second_reversed(const std::array<std::string_view, 3>& parts) {
  return joined_mailbox("SRS0" + std::string(parts[2]), parts[1]);
}

Error srs_refused(std::string why) {
  return Error(Errc::refused, std::move(why));
}

}  // namespace

// Nothing parts the pieces of data: where the domain ends is not authenticated, as the others have
// it.
std::string Srs::hash(const std::string& key, std::string_view data) const {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  const auto lower = ascii_lower(data);
  const auto* made = HMAC(EVP_sha1(), key.data(), static_cast<int>(key.size()),
                          reinterpret_cast<const unsigned char*>(lower.data()), lower.size(),
                          digest.data(), &size);
  POSTRIDER_ASSERT(made != nullptr);
  return encode_base64({reinterpret_cast<const char*>(digest.data()), size});
}

// Cases may have been lost on the way, so they are not compared.
bool Srs::is_hash_of(std::string_view given, std::string_view data) const {
  constexpr std::size_t kWhole = 27;  // 20 octets in Base64, without padding
  if (given.size() < rules_.least_hash_length || given.size() > kWhole)
    return false;
  bool found = false;
  for (const auto& key : rules_.keys) {
    const auto wanted = ascii_lower(hash(key, data)).substr(0, given.size());
    if (equal_in_constant_time(wanted, ascii_lower(given)))
      found = true;
  }
  return found;
}

Result<std::string> Srs::made(const std::string& local_part) const {
  auto mailbox = joined_mailbox(local_part, rules_.domain);
  if (mailbox && mailbox->size() - rules_.domain.size() - 1 > rules_.most_local_part)
    return Error(Errc::too_long,
                 "a local part of more than " + std::to_string(rules_.most_local_part) + " octets");
  return mailbox;
}

Result<std::string> Srs::forward(const std::string& sender, TimePoint now) const {
  if (sender.empty())
    return sender;
  const auto mailbox = split_mailbox(sender);
  if (!mailbox)
    return mailbox.error();
  if (equals_ignoring_case(mailbox->domain, rules_.domain))
    return sender;
  const auto& meaning = mailbox->meaning;
  const auto tagged = [&](char digit, std::string_view authenticated, const std::string& rest) {
    return std::string("SRS") + digit + rules_.separator +
           hash(rules_.keys.front(), authenticated).substr(0, rules_.hash_length) + "=" + rest;
  };
  std::string_view behind_tag = meaning;
  behind_tag.remove_prefix(std::min(kTag + 1, meaning.size()));
  if (has_tag(meaning, '1'))
    if (const auto parts = parts_of<3>(behind_tag); parts && is_behind_first((*parts)[2]) &&
                                                    mail::is_dns_name((*parts)[1]) &&
                                                    second_reversed(*parts)) {
      const auto [hash, host, user] = *parts;
      return made(
          tagged('1', std::string(host).append(user), std::string(host).append("=").append(user)));
    }
  if (has_tag(meaning, '0') && is_behind_first(meaning.substr(kTag))) {
    const auto user = meaning.substr(kTag);  // with its separator
    return made(tagged('1', mailbox->domain + user, mailbox->domain + "=" + user));
  }
  const auto stamp = stamp_of(now);
  return made(tagged('0', stamp + mailbox->domain + meaning,
                     stamp + "=" + mailbox->domain + "=" + meaning));
}

bool Srs::is_srs(std::string_view mailbox) {
  const auto at = mailbox.rfind('@');
  if (at == std::string_view::npos)
    return false;
  const auto meaning = mail::unquoted_local_part(mailbox.substr(0, at));
  return has_tag(meaning, '0') || has_tag(meaning, '1');
}

Result<std::string> Srs::reverse(const std::string& mailbox, TimePoint now) const {
  const auto parsed = split_mailbox(mailbox);
  if (!parsed || !equals_ignoring_case(parsed->domain, rules_.domain))
    return Error(Errc::not_found, "no address of " + rules_.domain);
  std::string_view behind_tag = parsed->meaning;
  behind_tag.remove_prefix(std::min(kTag + 1, behind_tag.size()));
  if (has_tag(parsed->meaning, '0'))
    return reverse_first(behind_tag, now);
  if (has_tag(parsed->meaning, '1'))
    return reverse_second(behind_tag);
  return Error(Errc::not_found, "no SRS address");
}

Result<std::string> Srs::reverse_first(std::string_view behind_tag, TimePoint now) const {
  const auto parts = parts_of<4>(behind_tag);
  if (!parts)
    return malformed("an SRS address without all its parts");
  const auto [hash, stamp, domain, local_part] = *parts;
  if (!is_hash_of(hash, std::string(stamp).append(domain).append(local_part)))
    return srs_refused("the hash of an SRS address is wrong");
  const auto day = day_of_stamp(stamp);
  if (!day)
    return malformed("an SRS address without a day");
  // The clock of another host with our key may be ahead of ours around midnight.
  const auto age = (day_of(now) + 1 + kSlots - *day) % kSlots;
  if (age > rules_.max_age_days + 1)
    return srs_refused("an SRS address is too old");
  return joined_mailbox(local_part, domain);
}

Result<std::string> Srs::reverse_second(std::string_view behind_tag) const {
  const auto parts = parts_of<3>(behind_tag);
  if (!parts)
    return malformed("an SRS address without all its parts");
  const auto [hash, host, user] = *parts;
  if (!is_hash_of(hash, std::string(host).append(user)))
    return srs_refused("the hash of an SRS address is wrong");
  return second_reversed(*parts);
}

}  // namespace postrider::mailauth
