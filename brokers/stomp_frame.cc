#include "brokers/stomp_frame.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::brokers {

namespace {

// Both commands of the handshake came before there were escapes, and keep without.
bool has_escapes(std::string_view command) {
  return command != "CONNECT" && command != "STOMP" && command != "CONNECTED";
}

void append_encoded(std::string& out, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '\\':
        out += "\\\\";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\n':
        out += "\\n";
        break;
      case ':':
        out += "\\c";
        break;
      default:
        out += c;
    }
  }
}

void append_value(std::string& out, std::string_view text, bool is_escaped) {
  if (is_escaped)
    return append_encoded(out, text);
  for (const char c : text)
    if (c != '\r' && c != '\n' && c != ':')
      out += c;
}

// Another escape than these four is an error (STOMP 1.2, Value Encoding).
std::optional<std::string> unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    constexpr std::string_view kLetters = "\\rnc", kMeant = "\\\r\n:";
    const auto which = i + 1 < text.size() ? kLetters.find(text[i + 1]) : std::string_view::npos;
    if (which == std::string_view::npos)
      return std::nullopt;
    out += kMeant[which];
    ++i;
  }
  return out;
}

}  // namespace

std::string_view StompFrame::header(std::string_view name) const {
  const auto found = std::find_if(headers.begin(), headers.end(),
                                  [&](const auto& one) { return one.first == name; });
  return found == headers.end() ? std::string_view() : found->second;
}

std::string encode(const StompFrame& frame) {
  const bool is_escaped = has_escapes(frame.command);
  auto out = frame.command + '\n';
  for (const auto& [name, value] : frame.headers) {
    append_value(out, name, is_escaped);
    out += ':';
    append_value(out, value, is_escaped);
    out += '\n';
  }
  if (!frame.body.empty())
    out += "content-length:" + std::to_string(frame.body.size()) + '\n';
  out += '\n';
  out += frame.body;
  out += '\0';
  return out;
}

Result<std::optional<StompFrame>> StompReader::next() {
  // Line ends between frames are heart-beats.
  const auto begin = bytes_.find_first_not_of("\r\n");
  bytes_.erase(0, std::min(begin, bytes_.size()));
  frame_ = StompFrame();
  const auto head = read_head();
  if (!head)
    return head.error();
  if (*head == 0)
    return std::optional<StompFrame>();
  const auto end = end_of_body(*head);
  if (!end)
    return end.error();
  if (!*end)
    return std::optional<StompFrame>();
  frame_.body = bytes_.substr(*head, **end - *head);
  bytes_.erase(0, **end + 1);
  return std::optional<StompFrame>(std::move(frame_));
}

// Where the body begins; 0: the head has not come whole.
Result<std::size_t> StompReader::read_head() {
  std::size_t at = 0;
  for (;;) {
    const auto end = bytes_.find('\n', at);
    if (std::min(end, bytes_.size()) > kMostHead)
      return Error(Errc::too_long, "read the head of a STOMP frame");
    if (end == std::string::npos)
      return std::size_t{0};
    auto line = std::string_view(bytes_).substr(at, end - at);
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    at = end + 1;
    if (frame_.command.empty()) {
      const bool is_command =
          std::all_of(line.begin(), line.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
      if (line.empty() || !is_command)
        return malformed("the command of a STOMP frame");
      frame_.command = line;
    } else if (line.empty()) {
      return at;
    } else if (auto read = read_header(line); !read) {
      return read.error();
    }
  }
}

Result<void> StompReader::read_header(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == 0 || colon == std::string_view::npos)
    return malformed("a header of a STOMP frame");
  if (frame_.headers.size() == kMostHeaders)
    return Error(Errc::too_long, "read the headers of a STOMP frame");
  const auto name = line.substr(0, colon), value = line.substr(colon + 1);
  if (!has_escapes(frame_.command)) {
    frame_.headers.emplace_back(name, value);
    return {};
  }
  auto plain_name = unescaped(name), plain_value = unescaped(value);
  if (!plain_name || !plain_value)
    return malformed("a header of a STOMP frame");
  frame_.headers.emplace_back(*std::move(plain_name), *std::move(plain_value));
  return {};
}

// Where its NUL is; none while it has not come.
Result<std::optional<std::size_t>> StompReader::end_of_body(std::size_t begin) const {
  const auto length = frame_.header("content-length");
  if (length.empty()) {
    const auto end = bytes_.find('\0', begin);
    if (std::min(end, bytes_.size()) - begin > kMostBody)
      return Error(Errc::too_long, "read the body of a STOMP frame");
    return end == std::string::npos ? std::optional<std::size_t>() : std::optional(end);
  }
  const auto size = parse_unsigned(length);
  if (!size)
    return malformed("the content-length of a STOMP frame");
  if (*size > kMostBody)
    return Error(Errc::too_long, "read the body of a STOMP frame");
  const auto end = begin + static_cast<std::size_t>(*size);
  if (bytes_.size() <= end)
    return std::optional<std::size_t>();
  if (bytes_[end] != '\0')
    return malformed("the end of a STOMP frame");
  return std::optional(end);
}

}  // namespace postrider::brokers
