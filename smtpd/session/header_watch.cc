#include "smtpd/session/header_watch.h"

#include "base/text.h"
#include "mail/hops.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd {

namespace {

// Enough of a line to know its field, and the colon and line end behind the name.
constexpr std::size_t kMostOfLine = mail::kMostOfFieldName + 3;
constexpr std::size_t kMostOfId = 320;  // to log

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

void HeaderWatch::finish() {
  if (!ended_ && !partial_.empty())
    on_line(partial_);
  partial_.clear();
}

void HeaderWatch::on_line(std::string_view line) {
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  const auto kind = mail::judge_header_line(line, is_first_);
  if (std::exchange(is_first_, false))
    first_line_ = kind;
  ended_ = !mail::is_in_header(kind);
  if (kind == mail::HeaderLine::field)
    on_field(mail::field_name(line), line.substr(line.find(':') + 1));
  else if (in_message_id_ && message_id_.empty() && !ended_)
    message_id_ = trim(line).substr(0, kMostOfId);
  else if (in_precedence_ && !ended_)
    begin_precedence(line);
  else if (in_trace_parent_ && !ended_)
    trace_parent_.go_on();
}

// Its word may stand on the next line.
void HeaderWatch::begin_precedence(std::string_view value) {
  precedence_ = mail::parse_precedence(value);
  in_precedence_ = trim(value).empty();
}

void HeaderWatch::on_field(std::string_view name, std::string_view value) {
  in_message_id_ = in_trace_parent_ = in_precedence_ = false;
  switch (name.empty() ? '\0' : ascii_lower(name.front())) {
    case 'r':
      received_fields_ += mail::is_received_field(name) ? 1 : 0;
      break;
    case 'd':
      has_date_ |= equals_ignoring_case(name, "Date");
      break;
    case 'm':
      if (has_message_id_ || !equals_ignoring_case(name, "Message-ID"))
        break;
      has_message_id_ = in_message_id_ = true;
      message_id_ = trim(value).substr(0, kMostOfId);
      break;
    case 'p':
      if (!precedence_ && equals_ignoring_case(name, "Precedence"))
        begin_precedence(value);
      break;
    case 't':
      tls_not_required_ |= mail::says_tls_not_required(name, value);
      in_trace_parent_ = equals_ignoring_case(name, mail::kTraceParent);
      if (in_trace_parent_)
        trace_parent_.begin(value);
      break;
    default:
      break;
  }
}

}  // namespace postrider::smtpd
