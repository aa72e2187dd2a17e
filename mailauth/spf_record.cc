#include "mailauth/spf_record.h"

#include "base/text.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <utility>

namespace postrider::mailauth {

namespace {

using Kind = SpfDirective::Kind;

constexpr std::string_view kVersion = "v=spf1";
constexpr std::size_t kMostOfText = 255;

constexpr std::array<std::pair<std::string_view, Kind>, 8> kMechanisms = {
    {{"all", Kind::all},
     {"include", Kind::include},
     {"a", Kind::a},
     {"mx", Kind::mx},
     {"ptr", Kind::ptr},
     {"ip4", Kind::ip4},
     {"ip6", Kind::ip6},
     {"exists", Kind::exists}}};

bool is_decimal(char c) {
  return c >= '0' && c <= '9';
}

// The number of bits behind a slash, without leading zeros.
std::optional<unsigned> parse_bits(std::string_view digits, unsigned most) {
  if (digits.empty() || digits.size() > 3 || (digits.size() > 1 && digits.front() == '0'))
    return std::nullopt;
  const auto bits = parse_unsigned(digits);
  if (!bits || *bits > most)
    return std::nullopt;
  return static_cast<unsigned>(*bits);
}

// Takes "/digits" or "//digits" off the end. Nothing if there is none.
std::optional<std::string_view> take_bits(std::string_view& text, std::string_view slashes) {
  auto digits = text.size();
  while (digits > 0 && is_decimal(text[digits - 1]))
    --digits;
  if (digits == text.size() || !text.substr(0, digits).ends_with(slashes))
    return std::nullopt;
  const auto found = text.substr(digits);
  text = text.substr(0, digits - slashes.size());
  return found;
}

// Takes dual-cidr-length (§5.6) off the end of what stands behind "a" or "mx".
Result<void> take_dual_bits(std::string_view& rest, SpfDirective& directive) {
  if (const auto digits = take_bits(rest, "//")) {
    const auto bits = parse_bits(*digits, 128);
    if (!bits)
      return malformed("a wrong prefix length");
    directive.v6_bits = *bits;
  }
  if (const auto digits = take_bits(rest, "/")) {
    const auto bits = parse_bits(*digits, 32);
    if (!bits)
      return malformed("a wrong prefix length");
    directive.v4_bits = *bits;
  }
  return {};
}

Result<void> parse_target(std::string_view rest, SpfDirective& directive) {
  if (!rest.starts_with(':'))
    return malformed("something between a mechanism and its domain");
  auto target = DomainSpec::parse(rest.substr(1));
  if (!target)
    return target.error();
  directive.target = std::move(*target);
  return {};
}

// ip4-network or ip6-network with its prefix length (§5.6).
Result<void> parse_network(std::string_view rest, SpfDirective& directive) {
  const bool is_v4 = directive.kind == Kind::ip4;
  if (!rest.starts_with(':'))
    return malformed("no network behind " + std::string(is_v4 ? "ip4" : "ip6"));
  rest.remove_prefix(1);
  const auto slash = rest.find('/');
  if (slash != std::string_view::npos) {
    const auto bits = parse_bits(rest.substr(slash + 1), is_v4 ? 32 : 128);
    if (!bits)
      return malformed("a wrong prefix length");
    (is_v4 ? directive.v4_bits : directive.v6_bits) = *bits;
    rest = rest.substr(0, slash);
  }
  std::array<char, 16> octets{};
  if (inet_pton(is_v4 ? AF_INET : AF_INET6, std::string(rest).c_str(), octets.data()) != 1)
    return malformed("a wrong address");
  directive.network.assign(octets.data(), is_v4 ? 4 : 16);
  return {};
}

Result<void> parse_argument(std::string_view rest, SpfDirective& directive) {
  switch (directive.kind) {
    case Kind::all:
      if (!rest.empty())
        return malformed("something behind all");
      return {};
    case Kind::a:
    case Kind::mx:
      if (auto bits = take_dual_bits(rest, directive); !bits)
        return bits;
      [[fallthrough]];
    case Kind::ptr:
      if (rest.empty())
        return {};
      [[fallthrough]];
    case Kind::include:
    case Kind::exists:
      return parse_target(rest, directive);
    case Kind::ip4:
    case Kind::ip6:
      return parse_network(rest, directive);
  }
  return malformed("an unknown mechanism");
}

Result<SpfDirective> parse_directive(std::string_view term) {
  SpfDirective directive;
  directive.text = term.substr(0, kMostOfText);
  switch (term.front()) {
    case '-':
      directive.result = SpfResult::fail;
      break;
    case '~':
      directive.result = SpfResult::softfail;
      break;
    case '?':
      directive.result = SpfResult::neutral;
      break;
    default:
      break;
  }
  if (term.front() == '+' || directive.result != SpfResult::pass)
    term.remove_prefix(1);
  const auto name = term.substr(0, term.find_first_of(":/"));
  const auto found = std::find_if(kMechanisms.begin(), kMechanisms.end(), [&](const auto& known) {
    return equals_ignoring_case(name, known.first);
  });
  if (found == kMechanisms.end())
    return malformed("an unknown mechanism");
  directive.kind = found->second;
  if (const auto parsed = parse_argument(term.substr(name.size()), directive); !parsed)
    return parsed.error();
  return directive;
}

// The name before "=", if the term is a modifier: ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
std::optional<std::string> modifier_name(std::string_view term) {
  const auto end =
      term.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
  if (end == std::string_view::npos || end == 0 || term[end] != '=')
    return std::nullopt;
  auto name = ascii_lower(term.substr(0, end));
  if (name.front() < 'a' || name.front() > 'z')
    return std::nullopt;
  return name;
}

struct Modifiers {
  bool has_redirect = false;
  bool has_explanation = false;
};

Result<void> parse_modifier(const std::string& name, std::string_view value, SpfRecord& record,
                            Modifiers& seen) {
  const bool is_redirect = name == "redirect";
  if (!is_redirect && name != "exp")
    return check_macro_string(value);
  if (std::exchange(is_redirect ? seen.has_redirect : seen.has_explanation, true))
    return malformed("the modifier " + name + " appears twice");
  auto target = DomainSpec::parse(value);
  if (!target)
    return target.error();
  if (is_redirect)
    record.redirect = std::move(*target);
  return {};
}

}  // namespace

std::string_view to_string(SpfResult result) {
  switch (result) {
    case SpfResult::none:
      return "none";
    case SpfResult::neutral:
      return "neutral";
    case SpfResult::pass:
      return "pass";
    case SpfResult::fail:
      return "fail";
    case SpfResult::softfail:
      return "softfail";
    case SpfResult::temperror:
      return "temperror";
    case SpfResult::permerror:
      return "permerror";
  }
  return "permerror";
}

bool SpfRecord::is_one(std::string_view text) {
  return starts_with_ignoring_case(text, kVersion) &&
         (text.size() == kVersion.size() || text[kVersion.size()] == ' ');
}

Result<SpfRecord> SpfRecord::parse(std::string_view text) {
  SpfRecord record;
  Modifiers seen;
  text.remove_prefix(kVersion.size());
  if (std::any_of(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }))
    return malformed("a character that is not printable ASCII");
  for (const auto term : split(text, ' ')) {
    if (term.empty())
      continue;
    Result<void> parsed;
    if (const auto name = modifier_name(term)) {
      parsed = parse_modifier(*name, term.substr(name->size() + 1), record, seen);
    } else if (auto directive = parse_directive(term); directive) {
      record.directives.push_back(std::move(*directive));
    } else {
      parsed = directive.error();
    }
    if (!parsed)
      return parsed.error().during("'" + std::string(term.substr(0, 64)) + "'");
  }
  return record;
}

}  // namespace postrider::mailauth
