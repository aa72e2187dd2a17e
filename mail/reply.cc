#include "mail/reply.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::mail {

namespace {

constexpr std::size_t kMostLine = 4096;
constexpr std::size_t kMostLines = 100;
constexpr std::size_t kMostText = 16384;
// A verdict must not be lost because its words are many: the message would be sent again.
constexpr std::size_t kMostBytes = 16U << 20U;
constexpr std::size_t kMostQuoted = 200;  // of a line that is not a reply

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// One to three digits without a leading zero (RFC 3463 §2), taken from the front.
std::optional<std::uint16_t> take_part(std::string_view& text) {
  std::size_t digits = 0;
  unsigned value = 0;
  while (digits < text.size() && is_digit(text[digits])) {
    if (++digits > 3)
      return std::nullopt;
    value = value * 10 + static_cast<unsigned>(text[digits - 1] - '0');
  }
  if (digits == 0 || (digits > 1 && text[0] == '0'))
    return std::nullopt;
  text.remove_prefix(digits);
  return static_cast<std::uint16_t>(value);
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c)
    return false;
  text.remove_prefix(1);
  return true;
}

// Length of "5.7.1 " at the start of the text if it is this code; else 0.
std::size_t code_size(std::string_view text, EnhancedCode code) {
  if (parse_enhanced_code(text) != code)
    return 0;
  const auto end = text.find(' ');
  return end == std::string_view::npos ? text.size() : end + 1;
}

// Nothing in a remote's text may move a cursor, end a line or break an encoding (attacks.md I07).
void clean(std::string& text) {
  const bool valid = is_utf8(text);
  for (char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\t')
      c = ' ';
    else if ((byte < 0x20 && c != '\n') || byte == 0x7F || (byte >= 0x80 && !valid))
      c = '?';
  }
}

void cut_line_end(std::string& line) {
  while (!line.empty() && line.back() == '\r')
    line.pop_back();
}

// Three digits, and not four: a line of a log begins with a year. 0: there is no code.
int code_of(std::string_view line) {
  if (line.size() < 3 || line[0] < '2' || line[0] > '5' || !is_digit(line[1]) || !is_digit(line[2]))
    return 0;
  if (line.size() > 3 && is_digit(line[3]))
    return 0;
  return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

// Of the code and its text, which may stand at it: "250OK".
bool has_separator(std::string_view line) {
  return line.size() <= 3 || line[3] == ' ' || line[3] == '-' || line[3] == '\t';
}

}  // namespace

std::string to_string(EnhancedCode code) {
  if (!code)
    return {};
  return std::to_string(code.klass)
      .append(1, '.')
      .append(std::to_string(code.subject))
      .append(1, '.')
      .append(std::to_string(code.detail));
}

std::optional<EnhancedCode> parse_enhanced_code(std::string_view text) {
  EnhancedCode code;
  if (text.empty() || (text[0] != '2' && text[0] != '4' && text[0] != '5'))
    return std::nullopt;
  code.klass = static_cast<std::uint8_t>(text[0] - '0');
  text.remove_prefix(1);
  if (!take(text, '.'))
    return std::nullopt;
  const auto subject = take_part(text);
  if (!subject || !take(text, '.'))
    return std::nullopt;
  const auto detail = take_part(text);
  if (!detail || (!text.empty() && text[0] != ' ' && text[0] != '\t' && text[0] != '\n'))
    return std::nullopt;
  code.subject = *subject;
  code.detail = *detail;
  return code;
}

std::string Reply::wire() const {
  const std::string digits = std::to_string(code);
  const std::string prefix = enhanced ? to_string(enhanced) + ' ' : std::string();
  std::string out;
  out.reserve(text.size() + prefix.size() + 8);
  std::string_view rest = text;
  for (;;) {
    const auto end = rest.find('\n');
    const bool last = end == std::string_view::npos;
    out.append(digits).append(1, last ? ' ' : '-').append(prefix).append(rest.substr(0, end));
    out.append("\r\n");
    if (last)
      return out;
    rest.remove_prefix(end + 1);
  }
}

std::string Reply::str() const {
  std::string out = std::to_string(code);
  if (enhanced)
    out.append(1, ' ').append(to_string(enhanced));
  if (text.empty())
    return out;
  out.append(1, ' ').append(text);
  std::replace(out.begin(), out.end(), '\n', ' ');
  return out;
}

// The text of several lines may begin with three digits ("250MB are yours"): once the code is known
// only what RFC 5321 §4.2.1 gives as a line of a reply is one.
int ReplyParser::code_of_line() const {
  const bool is_known = reply_.code != 0;
  return is_known && !has_separator(line_) ? 0 : code_of(line_);
}

void ReplyParser::add_line(std::string_view line, int code) {
  const bool has_code = code != 0;
  const std::size_t prefix = has_separator(line) ? 4 : 3;
  std::string_view text = has_code ? line.substr(std::min(line.size(), prefix)) : line;
  if (has_code && code != reply_.code) {
    reply_.code = code;
    const auto enhanced = parse_enhanced_code(text).value_or(EnhancedCode());
    reply_.enhanced = enhanced.klass == code / 100 ? enhanced : EnhancedCode();  // attacks.md I08
  }
  if (lines_++ > 0) {
    if (lines_ > kMostLines || reply_.text.size() >= kMostText)
      return;
    reply_.text.push_back('\n');
  }
  if (reply_.enhanced)
    text.remove_prefix(code_size(text, reply_.enhanced));
  reply_.text.append(text.substr(0, kMostText - std::min(kMostText, reply_.text.size())));
}

Result<std::optional<Reply>> ReplyParser::feed(std::string_view bytes, std::size_t& used,
                                               Noise noise) {
  used = 0;
  while (used < bytes.size()) {
    const auto rest = bytes.substr(used);
    const auto end = rest.find('\n');
    const auto part = rest.substr(0, end);
    line_.append(part.substr(0, kMostLine - line_.size()));
    const auto taken = end == std::string_view::npos ? rest.size() : end + 1;
    used += taken;
    bytes_ += taken;
    if (bytes_ > kMostBytes)
      return Error(Errc::too_long, "read reply");
    if (end == std::string_view::npos)
      break;
    cut_line_end(line_);
    const int code = code_of_line();
    if (code == 0 && reply_.code == 0) {
      if (noise_.empty())
        noise_ = "\"" + escaped(line_, kMostQuoted) + "\"";
      if (noise == Noise::refused)
        return malformed(noise_);
      line_.clear();
      continue;
    }
    add_line(line_, code);
    const bool last = code != 0 && (line_.size() < 4 || line_[3] != '-');
    line_.clear();
    if (last) {
      clean(reply_.text);
      lines_ = bytes_ = 0;
      noise_.clear();
      return std::optional(std::exchange(reply_, Reply()));
    }
  }
  return std::optional<Reply>();
}

// The beginning of a line that says nothing yet may be of another code, which would count.
std::optional<Reply> ReplyParser::unfinished() const {
  auto known = *this;
  cut_line_end(known.line_);
  const int code = known.code_of_line();
  if (code != 0)
    known.add_line(known.line_, code);
  else if (!known.line_.empty() && known.line_[0] - '0' != reply_.code / 100)
    return std::nullopt;
  if (known.reply_.code == 0)
    return std::nullopt;
  clean(known.reply_.text);
  return std::move(known.reply_);
}

}  // namespace postrider::mail
