#include "mailauth/spf_macro.h"

#include "base/text.h"
#include "mailauth/dns_name.h"
#include "mailauth/reverse_name.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

constexpr std::string_view kLetters = "slodiphcrtv";
constexpr std::string_view kExplanationLetters = "crt";
constexpr std::string_view kDelimiters = ".-+,/_=";
// Only the last 253 octets of an expansion count, so no more than this is kept while it grows.
constexpr std::size_t kMostOfExpansion = 16384;
constexpr std::size_t kKeptOfExpansion = 1024;

bool is_macro_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_alnum(char c) {
  return is_macro_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

// toplabel: letters, digits and hyphens within, not only digits.
bool is_top_label(std::string_view label) {
  return !label.empty() && is_alnum(label.front()) && is_alnum(label.back()) &&
         std::all_of(label.begin(), label.end(), [](char c) { return is_alnum(c) || c == '-'; }) &&
         !std::all_of(label.begin(), label.end(), is_macro_digit);
}

// domain-end, where it is not a macro: "." toplabel ["."]
bool is_domain_end(std::string_view literal) {
  if (literal.ends_with('.'))
    literal.remove_suffix(1);
  const auto dot = literal.rfind('.');
  return dot != std::string_view::npos && is_top_label(literal.substr(dot + 1));
}

std::string url_escaped(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      const auto octet = static_cast<unsigned char>(c);
      out += {'%', kHex[octet >> 4U], kHex[octet & 15U]};
    }
  }
  return out;
}

}  // namespace

Result<DomainSpec::Piece> DomainSpec::parse_macro(std::string_view inside) {
  Piece piece;
  if (inside.empty() || kLetters.find(ascii_lower(inside.front())) == std::string_view::npos)
    return malformed("unknown macro letter");
  piece.letter = ascii_lower(inside.front());
  piece.escaped = piece.letter != inside.front();
  inside.remove_prefix(1);
  const bool has_digits = !inside.empty() && is_macro_digit(inside.front());
  while (!inside.empty() && is_macro_digit(inside.front())) {
    piece.keep = std::min<std::size_t>(
        piece.keep * 10 + static_cast<std::size_t>(inside.front() - '0'), 1'000'000);
    inside.remove_prefix(1);
  }
  if (has_digits && piece.keep == 0)
    return malformed("a macro keeps 0 parts");
  if (!inside.empty() && ascii_lower(inside.front()) == 'r') {
    piece.reversed = true;
    inside.remove_prefix(1);
  }
  if (inside.find_first_not_of(kDelimiters) != std::string_view::npos)
    return malformed("unknown transformer or delimiter of a macro");
  if (!inside.empty())
    piece.delimiters = inside;
  return piece;
}

Result<DomainSpec> DomainSpec::parse(std::string_view text) {
  DomainSpec spec;
  bool ends_in_macro = false;
  std::string literal;  // since the last macro
  const auto add_literal = [&](std::string_view more) {
    if (spec.pieces_.empty() || spec.pieces_.back().letter != 0)
      spec.pieces_.emplace_back();
    spec.pieces_.back().literal += more;
  };
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] <= ' ' || text[at] > '~')
      return malformed("a character that is not visible ASCII");
    ends_in_macro = text[at] == '%';
    if (!ends_in_macro) {
      literal += text[at];
      add_literal(text.substr(at, 1));
      continue;
    }
    literal.clear();
    const char next = at + 1 < text.size() ? text[at + 1] : '\0';
    if (next == '%' || next == '_' || next == '-') {
      add_literal(next == '%' ? "%" : next == '_' ? " " : "%20");
      ++at;
      continue;
    }
    const auto end = text.find('}', at);
    if (next != '{' || end == std::string_view::npos)
      return malformed("a % that begins no macro");
    auto piece = parse_macro(text.substr(at + 2, end - at - 2));
    if (!piece)
      return piece.error();
    if (kExplanationLetters.find(piece->letter) != std::string_view::npos)
      return malformed("a macro letter for explanations only");
    spec.pieces_.push_back(std::move(*piece));
    at = end;
  }
  if (!ends_in_macro && !is_domain_end(literal))
    return malformed("a domain without a valid top label");
  return spec;
}

bool DomainSpec::uses_validated_name() const {
  return std::any_of(pieces_.begin(), pieces_.end(),
                     [](const Piece& piece) { return piece.letter == 'p'; });
}

std::string DomainSpec::value_of(const Piece& piece, const MacroValues& values) {
  switch (piece.letter) {
    case 's':
      return values.sender;
    case 'l':
      return values.local_part;
    case 'o':
      return values.sender_domain;
    case 'd':
      return values.domain;
    case 'h':
      return values.helo;
    case 'i':
      return dotted_parts(values.client);
    case 'v':
      return values.client.is_v4() ? "in-addr" : "ip6";
    default:
      return values.validated_name;
  }
}

std::optional<std::string> DomainSpec::expand(const MacroValues& values) const {
  std::string name;
  for (const auto& piece : pieces_) {
    if (piece.letter == 0) {
      name += piece.literal;
    } else {
      const auto value = value_of(piece, values);
      std::vector<std::string_view> parts;
      std::string_view rest = value;
      for (auto end = rest.find_first_of(piece.delimiters); end != std::string_view::npos;
           end = rest.find_first_of(piece.delimiters)) {
        parts.push_back(rest.substr(0, end));
        rest.remove_prefix(end + 1);
      }
      parts.push_back(rest);
      if (piece.reversed)
        std::reverse(parts.begin(), parts.end());
      if (piece.keep > 0 && piece.keep < parts.size())
        parts.erase(parts.begin(), parts.end() - static_cast<std::ptrdiff_t>(piece.keep));
      std::string joined;
      for (std::size_t i = 0; i < parts.size(); ++i)
        joined.append(i == 0 ? "" : ".").append(parts[i]);
      name += piece.escaped ? url_escaped(joined) : joined;
    }
    if (name.size() > kMostOfExpansion)
      name.erase(0, name.size() - kKeptOfExpansion);
  }
  if (name.ends_with('.'))
    name.pop_back();
  if (name.size() > kMostOfName) {
    const auto dot = name.find('.', name.size() - kMostOfName - 1);
    if (dot == std::string::npos)
      return std::nullopt;
    name.erase(0, dot + 1);
  }
  if (!can_be_asked(name))
    return std::nullopt;
  return name;
}

Result<void> check_macro_string(std::string_view text) {
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at)) {
    const char next = at + 1 < text.size() ? text[at + 1] : '\0';
    if (next == '%' || next == '_' || next == '-') {
      at += 2;
      continue;
    }
    // Anything in braces is looked at as the end of a name would be, without the rule about where
    // the letters for explanations may stand.
    const auto end = text.find('}', at);
    if (next != '{' || end == std::string_view::npos || end == at + 2 ||
        kLetters.find(ascii_lower(text[at + 2])) == std::string_view::npos)
      return malformed("a % that begins no macro");
    std::string probe = "%{d";
    probe.append(text.substr(at + 3, end - at - 3)).append("}");
    if (const auto spec = DomainSpec::parse(probe); !spec)
      return spec.error();
    at = end;
  }
  return {};
}

}  // namespace postrider::mailauth
