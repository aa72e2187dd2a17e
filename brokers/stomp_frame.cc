#include "brokers/stomp_frame.h"

#include "base/text.h"

#include <algorithm>
#include <utility>

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

// By the protocol, wherever in the head it stands; it is short then, and the first counts.
bool is_needed(const StompFrame& frame, std::string_view name, std::size_t line) {
  constexpr std::size_t kMostNeeded = 1024;
  const bool is_of_protocol = name == "ack" || name == "content-length" || name == "message-id";
  return is_of_protocol && line <= kMostNeeded && frame.header(name).empty();
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
  if (!has_head_) {
    if (frame_.command.empty())  // line ends between frames are heart-beats
      bytes_.erase(0, std::min(bytes_.find_first_not_of("\r\n"), bytes_.size()));
    const auto read = read_head();
    if (!read)
      return read.error();
    if (!*read)
      return std::optional<StompFrame>();
    has_head_ = true;
  }
  const auto read = read_body();
  if (!read)
    return read.error();
  if (!*read)
    return std::optional<StompFrame>();
  has_head_ = false;
  head_ = kept_ = 0;
  left_.reset();
  return std::optional(std::exchange(frame_, {}));
}

// Whether it has come whole.
Result<bool> StompReader::read_head() {
  const auto most = limits_.cuts ? kMostCutHead : kMostHead;
  std::size_t at = 0;
  bool is_whole = false;
  while (!is_whole) {
    const auto end = bytes_.find('\n', at);
    const auto size = std::min(end, bytes_.size()) - at;
    if (head_ + size > most)
      return Error(Errc::too_long, "read the head of a STOMP frame");
    if (end == std::string::npos)
      break;
    auto line = std::string_view(bytes_).substr(at, size);
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    at = end + 1;
    head_ += size + 1;
    is_whole = line.empty() && !frame_.command.empty() && !is_skipping_;
    if (std::exchange(is_skipping_, false) || is_whole)
      continue;
    if (auto read = read_line(line); !read)
      return read.error();
  }
  bytes_.erase(0, at);
  if (!is_whole && bytes_.size() > kMostHead && !frame_.command.empty()) {
    head_ += bytes_.size();
    bytes_.clear();
    is_skipping_ = true;
  }
  return is_whole;
}

Result<void> StompReader::read_line(std::string_view line) {
  if (!frame_.command.empty())
    return read_header(line);
  const bool is_command =
      std::all_of(line.begin(), line.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (line.empty() || !is_command || line.size() > kMostHead)
    return malformed("the command of a STOMP frame");
  frame_.command = line;
  kept_ += line.size() + 1;
  return {};
}

bool StompReader::has_room_for(std::string_view line) const {
  return frame_.headers.size() < kMostHeaders && kept_ + line.size() <= kMostHead;
}

Result<void> StompReader::read_header(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == 0 || colon == std::string_view::npos)
    return malformed("a header of a STOMP frame");
  if (!has_room_for(line) && !is_needed(frame_, line.substr(0, colon), line.size())) {
    if (limits_.cuts)
      return {};
    return Error(Errc::too_long, "read the headers of a STOMP frame");
  }
  kept_ += line.size() + 1;
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

// Whether it has come whole, with its NUL.
Result<bool> StompReader::read_body() {
  if (const auto length = frame_.header("content-length"); !length.empty())
    return read_sized_body(length);
  const auto end = bytes_.find('\0');
  if (auto kept = keep(std::min(end, bytes_.size())); !kept)
    return kept.error();
  if (end != std::string::npos)
    bytes_.erase(0, 1);
  return end != std::string::npos;
}

Result<bool> StompReader::read_sized_body(std::string_view length) {
  if (!left_) {
    left_ = parse_unsigned(length);
    if (!left_)
      return malformed("the content-length of a STOMP frame");
    frame_.is_cut = *left_ > limits_.body;
    if (frame_.is_cut && !limits_.cuts)
      return Error(Errc::too_long, "read the body of a STOMP frame");
  }
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(*left_, bytes_.size()));
  *left_ -= size;
  if (auto kept = keep(size); !kept)
    return kept.error();
  if (*left_ > 0 || bytes_.empty())
    return false;
  if (bytes_.front() != '\0')
    return malformed("the end of a STOMP frame");
  bytes_.erase(0, 1);
  return true;
}

// These octets belong to the body.
Result<void> StompReader::keep(std::size_t size) {
  const bool is_too_long = frame_.body.size() + size > limits_.body;
  if (is_too_long && !limits_.cuts)
    return Error(Errc::too_long, "read the body of a STOMP frame");
  frame_.is_cut = frame_.is_cut || is_too_long;
  if (frame_.is_cut)
    frame_.body.clear();
  else
    frame_.body.append(bytes_, 0, size);
  bytes_.erase(0, size);
  return {};
}

}  // namespace postrider::brokers
