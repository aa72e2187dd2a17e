#include "mail/address.h"

#include "base/text.h"

#include <idn2.h>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <memory>
#include <optional>

namespace postrider::mail {

namespace {

// RFC 5321 §4.5.3.1
constexpr std::size_t kMostDomain = 255;
constexpr std::size_t kMostPath = 256;
constexpr std::size_t kMostName = 253;
constexpr std::size_t kMostLabel = 63;

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

// Sizes of what stands at the start of the text; 0 if it is not there. Dots may stand anywhere, for
// such addresses exist; but not alone, nor as the steps of a path (attacks.md I01).
std::size_t dot_string_size(std::string_view text) {
  std::size_t i = 0;
  bool has_atom = false;
  for (; i < text.size(); ++i) {
    if (is_atext(text[i]) || is_8bit(text[i]))
      has_atom = true;
    else if (text[i] != '.')
      break;
    if (text.substr(i).starts_with("../"))
      return 0;
  }
  return has_atom ? i : 0;
}

// As RFC 5321 §4.1.2 has it: what we write ourselves without quotes.
bool is_strict_dot_string(std::string_view text) {
  return dot_string_size(text) == text.size() && !text.starts_with('.') && !text.ends_with('.') &&
         text.find("..") == std::string_view::npos && !text.empty();
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

// RFC 5322 §4.4, obs-local-part: words between dots, any of them quoted. Dots may stand anywhere
// here too.
std::size_t local_part_size(std::string_view text) {
  if (text.find('"') == std::string_view::npos)
    return dot_string_size(text);
  enum class Behind : std::uint8_t { dot, atom, quotes } behind = Behind::dot;
  bool has_word = false;
  std::size_t i = 0;
  while (i < text.size()) {
    std::size_t size = 1;
    if (text.substr(i).starts_with("../"))
      return 0;
    if (text[i] == '.')
      behind = Behind::dot;
    else if (text[i] == '"' && behind == Behind::dot &&
             (size = quoted_string_size(text.substr(i))) > 0)
      behind = Behind::quotes;
    else if ((is_atext(text[i]) || is_8bit(text[i])) && behind != Behind::quotes)
      behind = Behind::atom;
    else
      break;
    has_word = has_word || behind != Behind::dot;
    i += size;
  }
  return has_word ? i : 0;
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
    return malformed("not UTF-8");
  if (!smtputf8)
    return Error(Errc::unsupported, "address needs SMTPUTF8");
  return {};
}

// Why a name is none; empty if it is one.
std::string_view name_fault(std::string_view name, bool hyphens_anywhere) {
  if (name.empty())
    return "no domain";
  if (name.size() > kMostName)
    return "domain longer than 253 octets";
  for (std::size_t begin = 0; begin <= name.size();) {
    const auto label = name.substr(begin, name.find('.', begin) - begin);
    begin += label.size() + 1;
    if (label.empty())
      return "empty domain label";
    if (label.size() > kMostLabel)
      return "domain label longer than 63 octets";
    for (const char c : label)
      if (!is_letter_or_digit(c) && c != '-' && c != '_')
        return "character that no domain has";
    if (!hyphens_anywhere && (label.front() == '-' || label.back() == '-'))
      return "domain label with a hyphen at its start or end";
  }
  return {};
}

std::optional<std::string> canonical_literal(std::string_view domain);

// A domain as it is written from now on.
Result<std::string> canonical_domain(std::string_view domain) {
  if (domain.starts_with('[')) {
    if (auto literal = canonical_literal(domain))
      return *std::move(literal);
    return malformed("not an address literal");
  }
  if (domain.ends_with('.'))
    domain.remove_suffix(1);
  if (domain.size() > kMostDomain)
    return Error(Errc::too_long, "domain longer than 253 octets");
  const auto fault = name_fault(domain, false);
  if (!fault.empty() && is_ascii(domain))
    return malformed(std::string(fault));
  if (!fault.empty() && !to_ascii_domain(domain))
    return malformed("not an internationalized domain name");
  return std::string(domain);
}

struct Taken {
  std::string mailbox;
  std::size_t size = 0;  // of it in the text
};

// The mailbox at the start of the text.
Result<Taken> take_mailbox(std::string_view text, const PathRules& rules) {
  const auto local = local_part_size(text);
  if (local == 0)
    return malformed(text.starts_with('@') ? "empty local part" : "malformed local part");
  Taken taken{std::string(text.substr(0, local)), local};
  if (auto encoding = check_encoding(taken.mailbox, rules.smtputf8); !encoding)
    return encoding.error();
  if (text.substr(local).starts_with('@')) {
    const auto domain = text.substr(local + 1, domain_size(text.substr(local + 1)));
    if (auto encoding = check_encoding(domain, rules.smtputf8); !encoding)
      return encoding.error();
    auto canonical = canonical_domain(domain);
    if (!canonical)
      return canonical.error();
    taken.size += 1 + domain.size();
    taken.mailbox.append(1, '@').append(*canonical);
  } else if (!rules.lenient) {
    return malformed(local == text.size() || text[local] == '>' ? "no domain"
                                                                : "malformed local part");
  } else if (!rules.origin.empty()) {
    taken.mailbox.append(1, '@').append(rules.origin);
  }
  if (std::max(taken.size, taken.mailbox.size()) + 2 > kMostPath)
    return Error(Errc::too_long, "longer than 254 octets");
  return taken;
}

// RFC 5321 appendix C: "@a.example,@b.example:" is read and ignored.
Result<std::string_view> skip_source_route(std::string_view text, bool smtputf8) {
  while (text.starts_with('@')) {
    text.remove_prefix(1);
    const auto domain = text.substr(0, domain_size(text));
    if (auto encoding = check_encoding(domain, smtputf8); !encoding)
      return encoding.error();
    if (auto checked = canonical_domain(domain); !checked)
      return checked.error();
    text.remove_prefix(domain.size());
    if (text.starts_with(':'))
      return text.substr(1);
    if (!text.starts_with(",@"))
      break;
    text.remove_prefix(1);
  }
  return malformed("malformed source route");
}

struct FreeIdn {
  void operator()(char* text) const { idn2_free(text); }
};

// RFC 5321 §4.1.3, Snum: one to three decimal digits, leading zeros among them; written without
// these from here on, for others read them as octal.
std::optional<std::string> canonical_ipv4(std::string_view address) {
  std::string canonical;
  std::size_t numbers = 0;
  for (const auto part : split(address, '.')) {
    const auto number = part.size() <= 3 ? parse_unsigned(part) : std::nullopt;
    if (!number || *number > 255 || ++numbers > 4)
      return std::nullopt;
    canonical.append(numbers > 1 ? "." : "").append(std::to_string(*number));
  }
  return numbers == 4 ? std::optional(canonical) : std::nullopt;
}

std::optional<std::string> canonical_ipv6(const std::string& address) {
  in6_addr parsed{};
  char text[INET6_ADDRSTRLEN];
  // An IPv4 address in disguise would pass by rules about addresses (attacks.md A08).
  if (inet_pton(AF_INET6, address.c_str(), &parsed) != 1 || IN6_IS_ADDR_V4MAPPED(&parsed) ||
      IN6_IS_ADDR_V4COMPAT(&parsed) || inet_ntop(AF_INET6, &parsed, text, sizeof text) == nullptr)
    return std::nullopt;
  return std::string(text);
}

std::optional<std::string> canonical_literal(std::string_view domain) {
  constexpr std::string_view kTag = "[IPv6:";
  if (domain.size() < 3 || domain.size() > 64 || domain.front() != '[' || domain.back() != ']')
    return std::nullopt;
  if (domain.find('\0') != std::string_view::npos)
    return std::nullopt;  // would end the text for inet_pton
  const auto inside = domain.substr(1, domain.size() - 2);
  if (!starts_with_ignoring_case(domain, kTag)) {
    const auto address = canonical_ipv4(inside);
    return address ? std::optional("[" + *address + "]") : std::nullopt;
  }
  const auto address = canonical_ipv6(std::string(inside.substr(kTag.size() - 1)));
  if (!address)
    return std::nullopt;
  return std::string(kTag) + *address + "]";
}

std::string_view without_spaces(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(" \t"), text.size()));
}

// Without brackets: up to what cannot belong to it.
Result<ParsedPath> take_bare_path(std::string_view text, const PathRules& rules) {
  constexpr std::string_view kPostmaster = "postmaster";
  const auto word = text.substr(0, text.find_first_of(" \t"));
  if (rules.bare_postmaster && equals_ignoring_case(word, kPostmaster))
    return ParsedPath{std::string(word), text.substr(word.size())};
  auto taken = take_mailbox(text, rules);
  if (!taken)
    return taken.error();
  return ParsedPath{std::move(taken->mailbox), text.substr(taken->size)};
}

}  // namespace

Result<ParsedPath> parse_path(std::string_view text, const PathRules& rules) {
  if (!text.starts_with('<'))
    return rules.lenient ? take_bare_path(text, rules)
                         : Result<ParsedPath>(malformed("no angle brackets"));
  std::string_view at = text.substr(1);
  if (rules.lenient)
    at = without_spaces(at);
  if (at.starts_with('>')) {
    if (!rules.null_allowed)
      return malformed("no address");
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
  auto taken = take_mailbox(at, rules);
  if (!taken)
    return taken.error();
  at.remove_prefix(taken->size);
  if (rules.lenient)
    at = without_spaces(at);
  if (!at.starts_with('>'))
    return malformed(at.empty() ? "no closing bracket" : "character that no address has");
  at.remove_prefix(1);
  if (text.size() - at.size() > kMostPath)
    return Error(Errc::too_long, "longer than 254 octets");
  return ParsedPath{std::move(taken->mailbox), at};
}

Result<std::string> parse_mailbox(std::string_view text, bool smtputf8) {
  auto taken = take_mailbox(text, {.smtputf8 = smtputf8});
  if (!taken)
    return taken.error();
  if (taken->size != text.size())
    return malformed("character that no address has");
  return std::move(taken->mailbox);
}

std::string unquoted_local_part(std::string_view local_part) {
  const bool is_quoted =
      local_part.size() >= 2 && local_part.front() == '"' && local_part.back() == '"';
  if (!is_quoted && (local_part.find('"') == std::string_view::npos ||
                     local_part_size(local_part) != local_part.size()))
    return std::string(local_part);
  std::string meaning;
  bool in_quotes = false;
  for (std::size_t i = 0; i < local_part.size(); ++i) {
    if (local_part[i] == '"') {
      in_quotes = !in_quotes;
      continue;
    }
    if (in_quotes && local_part[i] == '\\' && i + 1 < local_part.size())
      ++i;
    meaning.push_back(local_part[i]);
  }
  return meaning;
}

std::string mailbox_key(std::string_view address) {
  const auto at = address.rfind('@');
  if (at == std::string_view::npos)
    return std::string(address);
  const auto domain = to_ascii_domain(address.substr(at + 1));
  return unquoted_local_part(address.substr(0, at)) + '\0' +
         (domain ? ascii_lower(*domain) : ascii_lower(address.substr(at + 1)));
}

std::string quoted_local_part(std::string_view meaning) {
  if (is_strict_dot_string(meaning))
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
  return canonical_literal(domain).has_value();
}

bool is_host_name(std::string_view name) {
  return name_fault(name, false).empty();
}

bool is_dns_name(std::string_view name) {
  return name_fault(name, true).empty();
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

std::string to_unicode_domain(std::string_view domain) {
  std::string source(domain);
  if (domain.size() > kMostDomain || !is_ascii(domain) || domain.find('\0') != domain.npos ||
      ascii_lower(domain).find("xn--") == std::string::npos)
    return source;
  char* converted = nullptr;
  const int code = idn2_to_unicode_8z8z(source.c_str(), &converted, 0);
  const std::unique_ptr<char, FreeIdn> owner(converted);
  if (code != IDN2_OK)
    return source;
  const auto back = to_ascii_domain(converted);  // "xn--a" would become an empty label
  return back && *back == ascii_lower(source) ? std::string(converted) : source;
}

}  // namespace postrider::mail
