#include "mailauth/auth_results.h"

#include "base/text.h"
#include "mail/address.h"
#include "mail/header.h"
#include "mailauth/folding.h"

#include <algorithm>
#include <utility>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kMostValue = 400;
constexpr std::size_t kLeastDataShown = 8;  // RFC 6008 §4

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

bool is_8bit(char c) {
  return static_cast<unsigned char>(c) >= 0x80;
}

bool is_utf8_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// RFC 2045 §5.1
bool is_token_char(char c) {
  return static_cast<unsigned char>(c) > 0x20 && static_cast<unsigned char>(c) < 0x7F &&
         std::string_view("()<>@,;:\\\"/[]?=").find(c) == std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

// Cut, and without what cannot stand in a header field.
std::string harmless(std::string_view text, bool utf8) {
  auto cut = text.substr(0, kMostValue);
  while (!cut.empty() && cut.size() < text.size() && is_utf8_continuation(text[cut.size()]))
    cut.remove_suffix(1);
  const bool keep_8bit = utf8 && is_utf8(cut);
  std::string out(cut);
  for (char& c : out)
    if (is_control(c) || (is_8bit(c) && !keep_8bit))
      c = '?';
  return out;
}

std::string quoted(std::string_view text) {
  std::string out("\"");
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out.push_back('\\');
    out.push_back(c);
  }
  return out + '"';
}

// "local@domain" and "@domain" may stand as they are (§2.2, pvalue).
bool is_plain_address(std::string_view text) {
  const auto at = text.rfind('@');
  if (at == std::string_view::npos || !mail::is_dns_name(text.substr(at + 1)))
    return false;
  const auto local = text.substr(0, at);
  return local.empty() || (is_token(local) && !local.starts_with('.') && !local.ends_with('.') &&
                           local.find("..") == std::string_view::npos);
}

std::string value_text(std::string_view outside, bool utf8) {
  const auto text = harmless(outside, utf8);
  return is_token(text) || is_plain_address(text) ? text : quoted(text);
}

std::string comment_text(std::string_view outside, bool utf8) {
  auto text = harmless(outside, utf8);
  for (char& c : text)
    if (c == '(' || c == ')' || c == '\\')
      c = '?';
  return "(" + text + ")";
}

// The pieces of a result between which the field may be folded.
std::vector<std::string> pieces_of(const MethodResult& result, bool utf8) {
  std::vector<std::string> pieces = {result.method + "=" + result.result};
  if (!result.comment.empty())
    pieces.push_back(comment_text(result.comment, utf8));
  if (!result.reason.empty())
    pieces.push_back("reason=" + quoted(harmless(result.reason, utf8)));
  for (const auto& property : result.properties)
    pieces.push_back(property.type + "." + property.name + "=" + value_text(property.value, utf8));
  return pieces;
}

std::string field_text(FoldedField field, std::string_view authserv_id,
                       const std::vector<MethodResult>& results, bool utf8) {
  field.put(value_text(authserv_id, utf8) + ";", true);
  if (results.empty())
    field.put("none", true);
  for (std::size_t i = 0; i < results.size(); ++i) {
    auto pieces = pieces_of(results[i], utf8);
    if (i + 1 < results.size())
      pieces.back().push_back(';');
    for (const auto& piece : pieces)
      field.put(piece, true);
  }
  return field.finish();
}

// As many characters of each signature as tell it from all others, kLeastDataShown at least.
std::size_t data_shown(const std::vector<SignatureReport>& reports) {
  std::size_t shown = kLeastDataShown;
  for (std::size_t i = 0; i < reports.size(); ++i)
    for (std::size_t k = 0; k < i; ++k) {
      const auto& a = reports[i].data_text;
      const auto& b = reports[k].data_text;
      const auto same = static_cast<std::size_t>(
          std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
      if (same < std::min(a.size(), b.size()))
        shown = std::max(shown, same + 1);
    }
  return std::min(shown, kMostValue);
}

MethodResult dkim_result(const SignatureReport& report, std::size_t shown) {
  MethodResult result{"dkim", std::string(to_string(report.result))};
  result.reason = report.reason;
  if (report.key_bits > 0 && report.algorithm == algorithm_of(KeyType::rsa))
    result.comment = std::to_string(report.key_bits) + "-bit key";
  if (report.testing)
    result.comment += result.comment.empty() ? "testing" : ", testing";
  const auto add = [&](std::string_view name, std::string_view value) {
    if (!value.empty())
      result.properties.push_back({"header", std::string(name), std::string(value)});
  };
  add("d", report.domain);
  add("i", report.identity);
  add("s", report.selector);
  add("a", report.algorithm);
  add("b", std::string_view(report.data_text).substr(0, shown));
  return result;
}

bool was_read(const SignatureReport& report) {
  return !report.is_left_out && (!report.domain.empty() || !report.data_text.empty());
}

// Reads by the grammar of RFC 8601 §2.2.
class ResultsReader {
 public:
  explicit ResultsReader(std::string_view text) : text_(text) {}

  Result<AuthenticationResults> read() {
    AuthenticationResults read;
    if (text_.size() > kMostResultsSize)
      return Error(Errc::too_long, "results too long");
    auto id = word();
    if (!id)
      return malformed("no authserv-id");
    read.authserv_id = *id;
    skip_blanks();
    if (const auto version = number(); version && *version != "1")
      return Error(Errc::unsupported, "unknown version");
    while (take(';')) {
      if (at_end() && !read.results.empty())
        break;
      if (read.results.size() == kMostResults)
        return Error(Errc::too_long, "too many results");
      MethodResult result;
      if (!method(result))
        return malformed("result without a method");
      if (result.method == "none" && result.result.empty() && read.results.empty()) {
        take(';');
        break;
      }
      if (result.result.empty() || !properties(result))
        return malformed("result outside the grammar");
      read.results.push_back(std::move(result));
    }
    if (broken_ || !at_end())
      return malformed("results outside the grammar");
    return read;
  }

 private:
  bool at_end() {
    skip_blanks();
    return at_ == text_.size();
  }

  // White space and comments, which nest.
  void skip_blanks() {
    std::size_t depth = 0;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (depth > 0 && c == '\\')
        ++at_;
      else if (c == '(')
        ++depth;
      else if (c == ')' && depth > 0)
        --depth;
      else if (depth == 0 && !is_blank(c))
        break;
    }
    if (depth > 0 || at_ > text_.size())
      broken_ = true;
    at_ = std::min(at_, text_.size());
  }

  bool take(char wanted) {
    skip_blanks();
    if (at_ == text_.size() || text_[at_] != wanted)
      return false;
    ++at_;
    return true;
  }

  // A token or a quoted string.
  std::optional<std::string> word(std::string_view more = {}) {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '"')
      return quoted_string();
    const auto begin = at_;
    while (at_ < text_.size() && (is_token_char(text_[at_]) || is_8bit(text_[at_]) ||
                                  more.find(text_[at_]) != std::string_view::npos))
      ++at_;
    return at_ == begin ? std::nullopt
                        : std::optional(std::string(text_.substr(begin, at_ - begin)));
  }

  std::optional<std::string> quoted_string() {
    std::string out;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\' && ++at_ == text_.size())
        break;
      if (text_[at_] != '\r' && text_[at_] != '\n')
        out.push_back(text_[at_]);
    }
    if (at_ == text_.size()) {
      broken_ = true;
      return std::nullopt;
    }
    ++at_;
    return out;
  }

  std::optional<std::string> number() {
    const auto begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9')
      ++at_;
    return at_ == begin ? std::nullopt
                        : std::optional(std::string(text_.substr(begin, at_ - begin)));
  }

  // "method[/1]=result", or "none" alone.
  bool method(MethodResult& result) {
    auto name = word();
    if (!name)
      return false;
    result.method = ascii_lower(*name);
    if (take('/')) {
      skip_blanks();
      if (number() != "1")
        return false;
    }
    if (!take('='))
      return true;
    result.result = ascii_lower(word().value_or(""));
    return true;
  }

  // "reason=value", "ptype.property=pvalue", any number.
  bool properties(MethodResult& result) {
    while (!at_end() && text_[at_] != ';') {
      auto name = word();
      if (!name)
        return false;
      if (take('.'))  // blanks round the dot
        *name += "." + word().value_or("");
      if (name->ends_with('.'))
        *name += word().value_or("");
      if (!take('='))
        return false;
      auto value = pvalue();
      if (!value || result.properties.size() == kMostResults)
        return false;
      const auto dot = name->find('.');
      if (ascii_lower(*name) == "reason")
        result.reason = *value;
      else if (dot == std::string::npos)
        return false;
      else
        result.properties.push_back(
            {ascii_lower(name->substr(0, dot)), ascii_lower(name->substr(dot + 1)), *value});
    }
    return true;
  }

  // A value, or an address, whose local part may be quoted. "/", ":" and "=" are taken unquoted
  // too: signatures and addresses of others stand so.
  std::optional<std::string> pvalue() {
    auto value = word("@/=:[]");
    if (value && at_ < text_.size() && text_[at_] == '@')
      *value += word("@/=:[]").value_or("");
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool broken_ = false;
};

// The text before the first semicolon, comments as blanks, quotes taken off, controls dropped;
// nothing if a comment or a quoted string does not end.
std::optional<std::string> head_of(std::string_view value) {
  std::string out;
  std::size_t depth = 0;
  bool in_quotes = false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const char c = value[i];
    if (c == '\\' && (in_quotes || depth > 0)) {
      if (++i < value.size() && in_quotes && !is_control(value[i]))
        out.push_back(value[i]);
    } else if (c == '"' && depth == 0) {
      in_quotes = !in_quotes;
    } else if (in_quotes) {
      if (!is_control(c))
        out.push_back(c);
    } else if (c == '(') {
      ++depth;
      out.push_back(' ');
    } else if (c == ')' && depth > 0) {
      --depth;
    } else if (depth == 0 && c == ';') {
      return out;
    } else if (depth == 0 && (is_blank(c) || !is_control(c))) {
      out.push_back(is_blank(c) ? ' ' : c);
    }
  }
  return in_quotes || depth > 0 ? std::nullopt : std::optional(out);
}

// Blanks round dots are none: some readers skip them.
std::string with_dots_joined(std::string_view head) {
  std::string out;
  for (std::size_t i = 0; i < head.size(); ++i) {
    if (head[i] == ' ') {
      const auto next = head.find_first_not_of(' ', i);
      const bool joins = out.ends_with('.') || (next != head.npos && head[next] == '.');
      if (joins)
        continue;
    }
    out.push_back(head[i]);
  }
  return out;
}

bool is_part_of_name(char c) {
  const char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || is_8bit(c);
}

// Without what a careless reader would skip at either end.
std::string comparable(std::string_view id) {
  while (!id.empty() && !is_part_of_name(id.back()))
    id.remove_suffix(1);
  while (!id.empty() && !is_part_of_name(id.front()))
    id.remove_prefix(1);
  const auto name = mail::to_ascii_domain(id);
  return name ? *name : ascii_lower(id);
}

// No name goes on behind such a character, and a careless reader may stop there: "mx.example.org:x"
// begins with a name, however wrong it is (RFC 8601 §2.2).
bool ends_name(char c) {
  return !is_part_of_name(c) && c != '.' && c != '-' && c != '_';
}

bool is_same_id(std::string_view word, std::string_view ours) {
  if (comparable(word) == ours)
    return true;
  while (!word.empty()) {
    const auto* const end = std::find_if(word.begin(), word.end(), ends_name);
    const auto size = static_cast<std::size_t>(end - word.begin());
    if (size > 0 && comparable(word.substr(0, size)) == ours)
      return true;
    word.remove_prefix(std::min(size + 1, word.size()));
  }
  return false;
}

// Blanks beyond ASCII become one each, and what has no width goes: programs that trim text by
// Unicode's rules see neither.
std::string with_plain_blanks(std::string_view head) {
  constexpr std::string_view kBlanks[] = {"\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
                                          "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f",
                                          "\xe3\x80\x80"};
  constexpr std::string_view kNothing[] = {"\xc2\xad",     "\xe2\x80\x8b", "\xe2\x80\x8c",
                                           "\xe2\x80\x8d", "\xe2\x80\x8e", "\xe2\x80\x8f",
                                           "\xe2\x81\xa0", "\xef\xbb\xbf"};
  std::string out;
  while (!head.empty()) {
    const auto begins = [&](std::string_view text) { return head.starts_with(text); };
    // U+2000 to U+200A are spaces of some width.
    const bool is_wide = head.size() > 2 && begins("\xe2\x80") &&
                         static_cast<unsigned char>(head[2]) >= 0x80 &&
                         static_cast<unsigned char>(head[2]) <= 0x8a;
    const auto* const blank = std::find_if(std::begin(kBlanks), std::end(kBlanks), begins);
    const auto* const nothing = std::find_if(std::begin(kNothing), std::end(kNothing), begins);
    std::size_t taken = 1;
    if (is_wide || blank != std::end(kBlanks)) {
      out.push_back(' ');
      taken = is_wide ? 3 : blank->size();
    } else if (nothing != std::end(kNothing)) {
      taken = nothing->size();
    } else {
      out.push_back(head.front());
    }
    head.remove_prefix(taken);
  }
  return out;
}

}  // namespace

std::string authentication_results_field(std::string_view authserv_id,
                                         const std::vector<MethodResult>& results, bool utf8) {
  return field_text(FoldedField("Authentication-Results"), authserv_id, results, utf8);
}

std::string arc_authentication_results_field(unsigned instance, std::string_view authserv_id,
                                             const std::vector<MethodResult>& results) {
  FoldedField field("ARC-Authentication-Results");
  field.put("i=" + std::to_string(instance) + ";", true);
  return field_text(std::move(field), authserv_id, results, false);
}

std::vector<MethodResult> dkim_results(const std::vector<SignatureReport>& reports) {
  if (reports.empty())
    return {{"dkim", "none"}};
  std::vector<MethodResult> results;
  const auto shown = data_shown(reports);
  MethodResult unread;
  std::size_t others = 0;
  for (const auto& report : reports) {
    if (was_read(report))
      results.push_back(dkim_result(report, shown));
    else if (others++ == 0)
      unread = {"dkim", std::string(to_string(report.result)), {}, report.reason};
  }
  if (others > 1)
    unread.comment = std::to_string(others) + " signatures";
  if (others > 0)
    results.push_back(std::move(unread));
  return results;
}

Result<AuthenticationResults> parse_authentication_results(std::string_view value) {
  return ResultsReader(value).read();
}

bool may_claim_authserv_id(std::string_view value, std::string_view authserv_id) {
  const auto head = head_of(value);
  if (!head)
    return true;
  const auto ours = comparable(authserv_id);
  const auto joined = with_dots_joined(with_plain_blanks(*head));
  std::vector<std::string_view> words;
  for (const auto word : split(joined, ' '))
    if (!word.empty())
      words.push_back(word);
  if (words.empty() || words.front().find('=') != std::string_view::npos)
    return true;  // no id
  if (std::any_of(words.begin(), words.end(),
                  [&](std::string_view word) { return is_same_id(word, ours); }))
    return true;
  const bool has_version =
      words.size() > 1 && words[1].find_first_not_of("0123456789") == std::string_view::npos;
  return has_version && words[1] != "1";
}

std::optional<std::string> without_forged_results(std::string_view header_section,
                                                  const std::vector<std::string>& authserv_ids) {
  mail::HeaderScanner scanner(header_section);
  mail::HeaderField field;
  std::string kept;
  bool removed = false;
  while (scanner.next(field)) {
    const bool forged =
        equals_ignoring_case(field.name, "Authentication-Results") &&
        std::any_of(authserv_ids.begin(), authserv_ids.end(),
                    [&](const std::string& id) { return may_claim_authserv_id(field.value, id); });
    removed = removed || forged;
    if (!forged)
      kept.append(field.whole);
  }
  if (!removed)
    return std::nullopt;
  // A first line that is not a field would be read otherwise where nothing stands above it.
  const auto rest = header_section.substr(scanner.consumed());
  if (kept.empty() && !rest.empty() && mail::first_header_line(rest) != mail::HeaderLine::empty)
    kept.assign("\r\n");
  return kept.append(rest);
}

}  // namespace postrider::mailauth
