#include "smtpd/header_watch.h"

#include "base/text.h"
#include "mail/header.h"

#include <algorithm>

namespace postrider::smtpd {

namespace {

// Enough of a line to know its field and to log a Message-ID.
constexpr std::size_t kMostOfLine = 320;

}  // namespace

void HeaderWatch::feed(std::string_view content) {
  while (!ended_ && !content.empty()) {
    const auto end = content.find('\n');
    const auto piece = content.substr(0, end);
    if (end == std::string_view::npos || !partial_.empty())
      partial_.append(piece.substr(0, kMostOfLine - std::min(kMostOfLine, partial_.size())));
    size_ += piece.size() + (end != std::string_view::npos ? 1 : 0);
    if (is_too_large())
      ended_ = true;
    if (ended_ || end == std::string_view::npos)
      return;
    on_line(partial_.empty() ? piece : std::string_view(partial_));
    partial_.clear();
    content.remove_prefix(end + 1);
  }
}

void HeaderWatch::on_line(std::string_view line) {
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  const bool continues = line.starts_with(' ') || line.starts_with('\t');
  if (continues) {
    if (in_message_id_ && message_id_.empty())
      message_id_ = trim(line).substr(0, kMostOfLine);
    return;
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos)
    ended_ = true;  // an empty line, or a body without one
  else
    on_field(trim(line.substr(0, colon)), line.substr(colon + 1));
}

void HeaderWatch::on_field(std::string_view name, std::string_view value) {
  in_message_id_ = false;
  switch (name.empty() ? '\0' : ascii_lower(name.front())) {
    case 'r':
      received_fields_ += equals_ignoring_case(name, "Received") ? 1 : 0;
      break;
    case 'd':
      has_date_ |= equals_ignoring_case(name, "Date");
      break;
    case 'm':
      if (has_message_id_ || !equals_ignoring_case(name, "Message-ID"))
        break;
      has_message_id_ = in_message_id_ = true;
      message_id_ = trim(value).substr(0, kMostOfLine);
      break;
    case 't':
      tls_not_required_ |= mail::says_tls_not_required(name, value);
      break;
    default:
      break;
  }
}

}  // namespace postrider::smtpd
