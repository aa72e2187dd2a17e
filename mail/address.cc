#include "mail/address.h"

#include "base/text.h"

#include <idn2.h>

#include <arpa/inet.h>
#include <array>
#include <memory>

namespace postrider::mail {

namespace {

// RFC 5321 §4.5.3.1
constexpr std::size_t kMostLocalPart = 64;
constexpr std::size_t kMostDomain = 255;
constexpr std::size_t kMostPath = 256;

enum : std::uint8_t { kAtext = 1, kLetterDigit = 2 };

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (unsigned c = '0'; c <= '9'; ++c)
    classes[c] = kAtext | kLetterDigit;
  for (unsigned c = 'a'; c <= 'z'; ++c)
    classes[c] = classes[c - 'a' + 'A'] = kAtext | kLetterDigit;
  for (const char c : std::string_view("!#$%&'*+-/=?^_`{|}~"))
    classes[static_cast<unsigned char>(c)] = kAtext;
  return classes;
}
constexpr auto kClasses = make_classes();

bool is_atext(char c) {
  return (kClasses[static_cast<unsigned char>(c)] & kAtext) != 0;
}
bool is_letter_or_digit(char c) {
  return (kClasses[static_cast<unsigned char>(c)] & kLetterDigit) != 0;
}
bool is_8bit(char c) {
  return static_cast<unsigned char>(c) >= 0x80;
}
bool is_printable(char c) {
  return c >= 0x20 && c < 0x7F;
}

// Sizes of what stands at the start of the text; 0 if it is not there.
std::size_t dot_string_size(std::string_view text) {
  std::size_t i = 0;
  bool after_dot = true;
  for (; i < text.size(); ++i) {
    if (text[i] == '.' && !after_dot)
      after_dot = true;
    else if (is_atext(text[i]) || is_8bit(text[i]))
      after_dot = false;
    else
      break;
  }
  return after_dot ? 0 : i;
}

std::size_t quoted_string_size(std::string_view text) {
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"')
      return i + 1;
    if (text[i] == '\\' && (++i == text.size() || !is_printable(text[i])))
      return 0;  // RFC 5321 §4.1.2: only printable ASCII may be escaped
    if (!is_printable(text[i]) && !is_8bit(text[i]))
      return 0;
  }
  return 0;
}

std::size_t local_part_size(std::string_view text) {
  return text.starts_with('"') ? quoted_string_size(text) : dot_string_size(text);
}

// Up to what cannot be in a domain; judged by check_domain().
std::size_t domain_size(std::string_view text) {
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    return end == std::string_view::npos ? 0 : end + 1;
  }
  std::size_t i = 0;
  while (i < text.size() && (is_letter_or_digit(text[i]) || is_8bit(text[i]) || text[i] == '-' ||
                             text[i] == '.' || text[i] == '_'))
    ++i;
  return i;
}

Result<void> check_encoding(std::string_view text, bool smtputf8) {
  if (is_ascii(text))
    return {};
  if (!is_utf8(text))
    return malformed("address is not UTF-8");
  if (!smtputf8)
    return Error(Errc::unsupported, "address needs SMTPUTF8");
  return {};
}

Result<void> check_domain(std::string_view domain) {
  if (domain.size() > kMostDomain)
    return Error(Errc::too_long, "domain");
  if (domain.starts_with('[') ? is_address_literal(domain) : is_host_name(domain))
    return {};
  if (is_ascii(domain))
    return malformed("domain");
  auto converted = to_ascii_domain(domain);
  if (!converted)
    return converted.error();
  return {};
}

// The mailbox at the start of the text.
Result<std::string_view> take_mailbox(std::string_view text, bool smtputf8) {
  const auto local = local_part_size(text);
  if (local == 0)
    return malformed("local part");
  if (local == text.size() || text[local] != '@')
    return malformed("address without a domain");
  const auto domain = text.substr(local + 1, domain_size(text.substr(local + 1)));
  const auto mailbox = text.substr(0, local + 1 + domain.size());
  if (auto encoding = check_encoding(mailbox, smtputf8); !encoding)
    return encoding.error();
  if (local > kMostLocalPart)
    return Error(Errc::too_long, "local part");
  if (auto checked = check_domain(domain); !checked)
    return checked.error();
  return mailbox;
}

// RFC 5321 appendix C: "@a.example,@b.example:" is read and ignored.
Result<std::string_view> skip_source_route(std::string_view text, bool smtputf8) {
  while (text.starts_with('@')) {
    text.remove_prefix(1);
    const auto domain = text.substr(0, domain_size(text));
    if (auto encoding = check_encoding(domain, smtputf8); !encoding)
      return encoding.error();
    if (auto checked = check_domain(domain); !checked)
      return checked.error();
    text.remove_prefix(domain.size());
    if (text.starts_with(':'))
      return text.substr(1);
    if (!text.starts_with(",@"))
      break;
    text.remove_prefix(1);
  }
  return malformed("source route");
}

struct FreeIdn {
  void operator()(char* text) const { idn2_free(text); }
};

bool is_ipv4_literal(const std::string& address) {
  in_addr parsed{};
  char text[INET_ADDRSTRLEN];
  return inet_pton(AF_INET, address.c_str(), &parsed) == 1 &&
         inet_ntop(AF_INET, &parsed, text, sizeof text) != nullptr && address == text;
}

bool is_ipv6_literal(const std::string& address) {
  in6_addr parsed{};
  char text[INET6_ADDRSTRLEN];
  // An IPv4 address in disguise would pass by rules about addresses (attacks.md A08).
  return inet_pton(AF_INET6, address.c_str(), &parsed) == 1 && !IN6_IS_ADDR_V4MAPPED(&parsed) &&
         !IN6_IS_ADDR_V4COMPAT(&parsed) &&
         inet_ntop(AF_INET6, &parsed, text, sizeof text) != nullptr &&
         equals_ignoring_case(address, text);
}

}  // namespace

Result<ParsedPath> parse_path(std::string_view text, const PathRules& rules) {
  if (!text.starts_with('<'))
    return malformed("path without brackets");
  std::string_view at = text.substr(1);
  if (at.starts_with('>')) {
    if (!rules.null_allowed)
      return malformed("empty path");
    return ParsedPath{{}, at.substr(1)};
  }
  constexpr std::string_view kPostmaster = "postmaster";
  if (rules.bare_postmaster && starts_with_ignoring_case(at, kPostmaster) &&
      at.substr(kPostmaster.size()).starts_with('>'))
    return ParsedPath{std::string(at.substr(0, kPostmaster.size())),
                      at.substr(kPostmaster.size() + 1)};
  if (at.starts_with('@')) {
    const auto behind = skip_source_route(at, rules.smtputf8);
    if (!behind)
      return behind.error();
    at = *behind;
  }
  const auto mailbox = take_mailbox(at, rules.smtputf8);
  if (!mailbox)
    return mailbox.error();
  at.remove_prefix(mailbox->size());
  if (!at.starts_with('>'))
    return malformed("path without its closing bracket");
  at.remove_prefix(1);
  if (text.size() - at.size() > kMostPath)
    return Error(Errc::too_long, "path");
  return ParsedPath{std::string(*mailbox), at};
}

Result<std::string> parse_mailbox(std::string_view text, bool smtputf8) {
  if (text.size() + 2 > kMostPath)
    return Error(Errc::too_long, "address");
  const auto mailbox = take_mailbox(text, smtputf8);
  if (!mailbox)
    return mailbox.error();
  if (mailbox->size() != text.size())
    return malformed("address");
  return std::string(text);
}

std::string unquoted_local_part(std::string_view local_part) {
  if (local_part.size() < 2 || local_part.front() != '"' || local_part.back() != '"')
    return std::string(local_part);
  std::string meaning;
  const auto inside = local_part.substr(1, local_part.size() - 2);
  for (std::size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] == '\\' && i + 1 < inside.size())
      ++i;
    meaning.push_back(inside[i]);
  }
  return meaning;
}

std::string quoted_local_part(std::string_view meaning) {
  if (!meaning.empty() && dot_string_size(meaning) == meaning.size())
    return std::string(meaning);
  std::string quoted = "\"";
  for (const char c : meaning) {
    if (!is_printable(c) && !is_8bit(c))
      continue;  // has no form in an address
    if (c == '"' || c == '\\')
      quoted.push_back('\\');
    quoted.push_back(c);
  }
  return quoted.append(1, '"');
}

bool is_address_literal(std::string_view domain) {
  constexpr std::string_view kTag = "[IPv6:";
  if (domain.size() < 3 || domain.size() > 64 || domain.front() != '[' || domain.back() != ']')
    return false;
  if (domain.find('\0') != std::string_view::npos)
    return false;  // would end the text for inet_pton
  if (starts_with_ignoring_case(domain, kTag))
    return is_ipv6_literal(
        std::string(domain.substr(kTag.size(), domain.size() - kTag.size() - 1)));
  return is_ipv4_literal(std::string(domain.substr(1, domain.size() - 2)));
}

bool is_host_name(std::string_view name) {
  if (name.empty() || name.size() > 253)
    return false;
  std::size_t label = 0;  // octets of the label so far
  char before = '.';
  for (const char c : name) {
    if (c == '.') {
      if (label == 0 || before == '-')
        return false;
      label = 0;
    } else if (!(is_letter_or_digit(c) || (c == '-' && label > 0)) || ++label > 63) {
      return false;
    }
    before = c;
  }
  return label > 0 && before != '-';
}

Result<std::string> to_ascii_domain(std::string_view domain) {
  if (domain.size() > kMostDomain)
    return Error(Errc::too_long, "domain");
  if (is_ascii(domain)) {
    if (!is_host_name(domain))
      return malformed("domain");
    return ascii_lower(domain);
  }
  if (!is_utf8(domain) || domain.find('\0') != std::string_view::npos)
    return malformed("domain");
  const std::string source(domain);
  char* converted = nullptr;
  const int code =
      idn2_to_ascii_8z(source.c_str(), &converted, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
  const std::unique_ptr<char, FreeIdn> owner(converted);
  if (code != IDN2_OK || !is_host_name(converted))
    return malformed("domain");
  return ascii_lower(converted);
}

}  // namespace postrider::mail
