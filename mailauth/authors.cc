#include "mailauth/authors.h"

#include "mailauth/dns_name.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace postrider::mailauth {

namespace {

// One token of a structured field (RFC 5322 §3.2, §4.1), comments and white space left out.
struct Token {
  enum class Kind { word, quoted, literal, special, wrong };
  Kind kind = Kind::wrong;
  std::string_view text;
  char special = 0;

  bool is(char c) const { return kind == Kind::special && special == c; }
};

class Tokens {
 public:
  explicit Tokens(std::string_view text) : rest_(text) {}

  // Nothing at the end.
  std::optional<Token> next() {
    if (!skip_space_and_comments())
      return end_with_wrong();
    if (rest_.empty())
      return std::nullopt;
    switch (rest_.front()) {
      case '"':
        return delimited('"', Token::Kind::quoted);
      case '[':
        return delimited(']', Token::Kind::literal);
      case '<':
      case '>':
      case '@':
      case ',':
      case ';':
      case ':': {
        Token token{Token::Kind::special, rest_.substr(0, 1), rest_.front()};
        rest_.remove_prefix(1);
        return token;
      }
      default:
        return word();
    }
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

  std::optional<Token> end_with_wrong() {
    rest_ = {};
    return Token{};
  }

  // False for a comment without an end.
  bool skip_space_and_comments() {
    std::size_t depth = 0;
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (depth > 0 && c == '\\' && rest_.size() > 1)
        rest_.remove_prefix(1);
      else if (c == '(')
        ++depth;
      else if (c == ')' && depth > 0)
        --depth;
      else if (depth == 0 && !is_space(c))
        return true;
      rest_.remove_prefix(1);
    }
    return depth == 0;
  }

  std::optional<Token> delimited(char end, Token::Kind kind) {
    std::size_t at = 1;
    while (at < rest_.size() && rest_[at] != end)
      at += rest_[at] == '\\' ? 2 : 1;
    if (at >= rest_.size())
      return end_with_wrong();
    const Token token{kind, rest_.substr(0, at + 1), 0};
    rest_.remove_prefix(at + 1);
    return token;
  }

  std::optional<Token> word() {
    const auto end = std::find_if(rest_.begin(), rest_.end(), [](char c) {
      return is_space(c) || std::string_view("\"[]<>@,;:()\\").find(c) != std::string_view::npos ||
             (c >= 0 && c < ' ') || c == '\x7f';
    });
    const auto size = static_cast<std::size_t>(end - rest_.begin());
    if (size == 0) {  // a control, a bracket or a backslash where none may stand
      rest_.remove_prefix(1);
      return Token{};
    }
    const Token token{Token::Kind::word, rest_.substr(0, size), 0};
    rest_.remove_prefix(size);
    return token;
  }

  std::string_view rest_;
};

using Span = std::pair<const Token*, const Token*>;

bool is_text(const Token& token) {
  return token.kind == Token::Kind::word || token.kind == Token::Kind::quoted;
}

// Whether two neighbours are one local part or one domain: "ann . lee", white space left out.
bool are_joined(const Token& left, const Token& right) {
  return left.text.ends_with('.') || right.text.starts_with('.');
}

const Token* find_special(Span span, char special) {
  return std::find_if(span.first, span.second, [&](const Token& t) { return t.is(special); });
}

// The end of the words or the literal behind an "@".
const Token* end_of_domain(const Token* begin, const Token* end) {
  const auto* at = begin;
  while (at != end && (at->kind == Token::Kind::word || at->kind == Token::Kind::literal) &&
         (at == begin || are_joined(*(at - 1), *at)))
    ++at;
  return at;
}

bool is_address(Span span) {
  const auto* at = find_special(span, '@');
  if (at == span.first || at == span.second || !std::all_of(span.first, at, is_text))
    return false;
  for (const auto* word = span.first + 1; word != at; ++word)
    if (!are_joined(*(word - 1), *word))
      return false;
  return at + 1 != span.second && end_of_domain(at + 1, span.second) == span.second;
}

// What stands in brackets, behind a route: "<@relay.example:ann@example.org>" (RFC 5322 §4.4).
Span without_route(Span inside) {
  const auto* colon = find_special(inside, ':');
  if (inside.first != inside.second && inside.first->is('@') && colon != inside.second)
    return {colon + 1, inside.second};
  return inside;
}

// [phrase] "<" address ">", or an address alone.
bool is_mailbox(Span item) {
  const auto* open = find_special(item, '<');
  if (open == item.second)
    return is_address(item);
  const auto* close = find_special(item, '>');
  return close + 1 == item.second && close > open && std::all_of(item.first, open, is_text) &&
         is_address(without_route({open + 1, close}));
}

// Reads the addresses of one From field.
class FieldReader {
 public:
  FieldReader(std::string_view value, Authors& authors) : authors_(authors) {
    Tokens tokens(value);
    while (auto token = tokens.next())
      tokens_.push_back(*token);
  }

  void read() {
    const auto* begin = tokens_.data();
    const auto* const end = begin + tokens_.size();
    bool in_brackets = false, in_group = false;
    for (const auto* token = begin; token != end; ++token) {
      if (token->is('<') || token->is('>'))
        in_brackets = token->is('<');
      const bool ends_item = token->is(',') || token->is(';') || token->is(':');
      if (!ends_item || in_brackets)
        continue;
      if (token->is(':'))
        begin_group({begin, token}, in_group);
      else
        take_item({begin, token});
      if (token->is(';') && !std::exchange(in_group, false))
        note("a semicolon");
      begin = token + 1;
    }
    take_item({begin, end});
    if (in_group)
      note("a group without an end");
    if (!has_mailbox_)
      note("no address");
  }

 private:
  void note(std::string_view problem) {
    if (authors_.problem.empty())
      authors_.problem = "From: " + std::string(problem);
  }

  void begin_group(Span name, bool& in_group) {
    if (in_group || name.first == name.second || !std::all_of(name.first, name.second, is_text)) {
      note("a colon in an address");
      collect_domains(name);
    }
    in_group = true;
  }

  void take_item(Span item) {
    if (item.first == item.second)
      return;
    has_mailbox_ = true;
    if (!is_mailbox(item))
      note("what is not an address");
    collect_domains(item);
  }

  // Of everything that looks like an address, wherever it stands.
  void collect_domains(Span item) {
    const auto* open = find_special(item, '<');
    const auto* behind_route = open;
    if (open != item.second)
      behind_route = without_route({open + 1, item.second}).first;
    for (const auto* token = item.first; token != item.second; ++token) {
      if (!token->is('@') || (token > open && token < behind_route))
        continue;
      std::string domain;
      const auto* end = end_of_domain(token + 1, item.second);
      std::for_each(token + 1, end, [&](const Token& part) { domain += part.text; });
      add(domain);
    }
  }

  void add(const std::string& domain) {
    auto& domains = authors_.domains;
    const auto name = claimed_domain(domain);
    if (!name)
      note("an address without a domain name");
    else if (std::find(domains.begin(), domains.end(), *name) != domains.end())
      return;
    else if (domains.size() == kMostAuthorDomains) {
      note("more than 8 domains");
      authors_.too_many = true;
    } else {
      domains.push_back(*name);
    }
  }

  std::vector<Token> tokens_;
  Authors& authors_;
  bool has_mailbox_ = false;
};

}  // namespace

Authors read_authors(const std::vector<std::string_view>& from_fields) {
  Authors authors;
  if (from_fields.empty())
    authors.problem = "no From field";
  else if (from_fields.size() > 1)
    authors.problem = "several From fields";
  for (const auto value : from_fields)
    FieldReader(value, authors).read();
  return authors;
}

Authors read_authors(const HeaderIndex& header) {
  if (header.too_large()) {
    Authors authors;
    authors.problem = "the header is too large";
    return authors;
  }
  std::vector<std::string_view> values;
  for (const auto place : header.named("from"))
    values.push_back(header.fields()[place].value);
  return read_authors(values);
}

}  // namespace postrider::mailauth
