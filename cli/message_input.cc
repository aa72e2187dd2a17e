#include "cli/message_input.h"

#include <algorithm>
#include <cerrno>
#include <unistd.h>

namespace postrider::cli {

namespace {

// As they come from mailboxes and by UUCP (RFC 976 §2.4): "From ", each relay's before it ">From ".
constexpr std::string_view kFrom = "From ";
constexpr std::size_t kMostMarks = 32;

std::size_t marks_of(std::string_view line) {
  return std::min(line.find_first_not_of('>'), line.size());
}

// Enough of a line to know whether it is special: "From " behind its marks, or ".\r\n".
bool is_enough(std::string_view line) {
  const auto marks = marks_of(line);
  return marks > kMostMarks || line.size() >= marks + kFrom.size();
}

}  // namespace

// `line`: from the start of a line to its end, or enough of it.
bool MessageInput::take_line(std::string_view line, std::string& out) {
  const bool is_whole = line.back() == '\n';
  const bool is_from = before_header_ && marks_of(line) <= kMostMarks &&
                       line.substr(marks_of(line)).starts_with(kFrom);
  before_header_ = is_from;
  at_line_start_ = is_whole;
  if (is_from) {
    dropping_ = !is_whole;
    return true;
  }
  if (!dots_are_content_ && (line == ".\n" || line == ".\r\n"))
    return false;
  out.append(line);
  return true;
}

bool MessageInput::feed(std::string_view in, std::string& out) {
  while (!in.empty()) {
    const auto end = in.find('\n');
    const auto piece = in.substr(0, end == std::string_view::npos ? end : end + 1);
    in.remove_prefix(piece.size());
    if (!at_line_start_ || dropping_) {
      if (!dropping_)
        out.append(piece);
      at_line_start_ = piece.back() == '\n';
      dropping_ = dropping_ && !at_line_start_;
      continue;
    }
    held_.append(piece);
    if (held_.back() != '\n' && !is_enough(held_))
      continue;
    const std::string line = std::move(held_);
    held_.clear();
    if (!take_line(line, out))
      return false;
  }
  return true;
}

void MessageInput::finish(std::string& out) {
  // A lone dot without a line end also means the end.
  if (held_ != "." || dots_are_content_)
    out.append(held_);
  held_.clear();
}

Result<void> read_all(int descriptor, const std::function<Result<bool>(std::string_view)>& take) {
  std::string room(64U << 10U, '\0');
  for (;;) {
    const auto got = ::read(descriptor, room.data(), room.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read standard input");
    if (got == 0)
      return {};
    const auto more = take(std::string_view(room).substr(0, static_cast<std::size_t>(got)));
    if (!more)
      return more.error();
    if (!*more)
      return {};
  }
}

}  // namespace postrider::cli
