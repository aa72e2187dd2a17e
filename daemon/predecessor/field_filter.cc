#include "daemon/predecessor/field_filter.h"

#include "base/text.h"
#include "mail/header.h"

#include <utility>

namespace postrider::daemon {

void BccFilter::feed(std::string_view in, std::string& out) {
  while (in_header_ && !in.empty()) {
    const auto end = in.find('\n');
    line_.append(in.substr(0, end == in.npos ? in.size() : end + 1));
    in.remove_prefix(end == in.npos ? in.size() : end + 1);
    if (end != in.npos)
      take_line(std::exchange(line_, {}), out);
  }
  out.append(in);
}

void BccFilter::finish(std::string& out) {
  if (in_header_ && !line_.empty())
    take_line(std::exchange(line_, {}), out);
}

void BccFilter::take_line(std::string_view line, std::string& out) {
  const auto what = mail::judge_header_line(line, std::exchange(is_first_, false));
  in_header_ = mail::is_in_header(what);
  if (what != mail::HeaderLine::continuation) {
    const auto name = mail::field_name(line);
    leaves_out_ = what == mail::HeaderLine::field &&
                  (equals_ignoring_case(name, "Bcc") || equals_ignoring_case(name, "Resent-Bcc"));
  }
  if (!leaves_out_ || !in_header_)
    out.append(line);
}

}  // namespace postrider::daemon
