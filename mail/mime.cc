#include "mail/mime.h"

#include "base/base64.h"
#include "base/text.h"
#include "mail/header.h"

#include <algorithm>

namespace postrider::mail::mime {

namespace {

constexpr std::size_t kUsualBoundary = 70;  // RFC 2046 §5.1.1
constexpr std::size_t kLine = 76;           // RFC 2045 §6.7, §6.8

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Walks the tokens of a structured field value: comments and white space are skipped.
class ValueReader {
 public:
  explicit ValueReader(std::string_view text) : rest_(text) {}

  bool take(char c) {
    skip();
    if (rest_.empty() || rest_.front() != c)
      return false;
    rest_.remove_prefix(1);
    return true;
  }

  // A token or the meaning of a quoted string; empty if there is neither.
  std::string word() {
    skip();
    if (rest_.starts_with('"'))
      return quoted();
    std::size_t size = 0;
    while (size < rest_.size() && static_cast<unsigned char>(rest_[size]) > 0x20 &&
           std::string_view("()<>@,;:\\\"/[]?=").find(rest_[size]) == std::string_view::npos)
      ++size;
    std::string token(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return token;
  }

  bool at_end() {
    skip();
    return rest_.empty();
  }

 private:
  std::string quoted() {
    std::string text;
    std::size_t i = 1;
    for (; i < rest_.size() && rest_[i] != '"'; ++i) {
      if (rest_[i] == '\\' && i + 1 < rest_.size())
        ++i;
      if (rest_[i] != '\r' && rest_[i] != '\n')
        text.push_back(rest_[i]);
    }
    rest_.remove_prefix(std::min(i + 1, rest_.size()));
    return text;
  }

  void skip() {
    std::size_t depth = 0;
    std::size_t i = 0;
    for (; i < rest_.size(); ++i) {
      if (rest_[i] == '(')
        ++depth;
      else if (rest_[i] == ')' && depth > 0)
        --depth;
      else if (rest_[i] == '\\' && depth > 0)
        ++i;
      else if (depth == 0 && !is_space(rest_[i]))
        break;
    }
    rest_.remove_prefix(std::min(i, rest_.size()));
  }

  std::string_view rest_;
};

void read_type(std::string_view value, EntityHeader& header) {
  ValueReader reader(value);
  std::string type = ascii_lower(reader.word());
  if (type.empty() || !reader.take('/'))
    return;  // malformed counts as not given (RFC 2045 §5.2)
  header.type = type.append(1, '/').append(ascii_lower(reader.word()));
  header.types.push_back({header.type, {}, false});
  auto& read = header.types.back();
  while (reader.take(';')) {
    const auto name = reader.word();
    if (!reader.take('='))
      continue;
    auto text = reader.word();
    if (!equals_ignoring_case(name, "boundary"))
      continue;
    header.ambiguous = header.ambiguous || !read.boundaries.empty() || read.has_long_boundary;
    read.has_long_boundary |= text.size() > kMostBoundary;
    if (text.size() > kMostBoundary)
      continue;
    if (text.size() <= kUsualBoundary)
      header.boundary = text;
    read.boundaries.push_back(std::move(text));
  }
}

bool stays_in_quoted_printable(unsigned char byte) {
  return (byte >= 0x20 && byte < 0x7F && byte != '=') || byte == '\t';
}

}  // namespace

EntityHeader read_entity_header(std::string_view header) {
  EntityHeader entity;
  entity.type = "text/plain";
  entity.encoding = "7bit";
  HeaderScanner scanner(header);
  HeaderField field;
  while (scanner.next(field)) {
    if (equals_ignoring_case(field.name, "MIME-Version")) {
      entity.has_version = true;
    } else if (equals_ignoring_case(field.name, "Content-Type")) {
      entity.ambiguous = entity.ambiguous || entity.has_type;
      entity.has_type = true;
      read_type(field.value, entity);
    } else if (equals_ignoring_case(field.name, "Content-Transfer-Encoding")) {
      entity.ambiguous = entity.ambiguous || !entity.encoding_field.empty();
      entity.encoding_field = field.whole;
      entity.encoding = ascii_lower(ValueReader(field.value).word());
    }
  }
  return entity;
}

void append_quoted_printable(std::string_view bytes, std::string& out) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::size_t column = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const bool at_line_end = bytes.substr(i + 1, 2) == "\r\n" || i + 1 == bytes.size();
    if (byte == '\r' && bytes.substr(i, 2) == "\r\n") {
      out.append("\r\n");
      column = 0;
      ++i;
      continue;
    }
    const bool space_at_end = at_line_end && (byte == ' ' || byte == '\t');
    const bool plain = stays_in_quoted_printable(byte) && !space_at_end;
    const std::size_t size = plain ? 1 : 3;
    // The last octet of a line needs no room for the soft break's "=".
    if (column + size > kLine - (at_line_end ? 0U : 1U)) {
      out.append("=\r\n");
      column = 0;
    }
    if (plain)
      out.push_back(bytes[i]);
    else
      out.append(1, '=').append(1, kHex[byte >> 4U]).append(1, kHex[byte & 0x0FU]);
    column += size;
  }
}

std::size_t quoted_printable_size(std::string_view bytes) {
  std::size_t size = 0;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    size += stays_in_quoted_printable(byte) || byte == '\r' || byte == '\n' ? 1U : 3U;
  }
  return size + size / kLine * 3;
}

void append_base64(std::string_view bytes, std::string& out) {
  constexpr std::size_t kOctets = kLine / 4 * 3;  // of a line
  for (std::size_t at = 0; at < bytes.size(); at += kOctets)
    out.append(at > 0 ? "\r\n" : "").append(encode_base64(bytes.substr(at, kOctets)));
}

std::size_t base64_size(std::size_t bytes) {
  const std::size_t digits = (bytes + 2) / 3 * 4;
  return digits + digits / kLine * 2;
}

}  // namespace postrider::mail::mime
