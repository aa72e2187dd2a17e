#include "mail/trace_parent.h"

#include "base/text.h"
#include "mail/header.h"

#include <utility>

namespace postrider::mail {

namespace {

constexpr std::size_t kMostValue = 200;  // with white space around it

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

}  // namespace

bool is_trace_parent(std::string_view text) {
  if (text.size() != 55 || !text.starts_with("00-") || text[35] != '-' || text[52] != '-')
    return false;
  const auto trace = text.substr(3, 32), parent = text.substr(36, 16);
  return is_hex(trace) && !is_zero(trace) && is_hex(parent) && !is_zero(parent) &&
         is_hex(text.substr(53));
}

// Two that differ name two traces; nobody can say which one is meant.
void TraceParentField::begin(std::string_view value) {
  value_.clear();
  if (std::exchange(is_there_, true))
    return;
  // Who reads line by line may have kept the beginning of a long line alone.
  if (value.size() > kMostValue)
    return;
  if (value = trim(value); is_trace_parent(value))
    value_ = value;
}

std::string trace_parent_of(std::string_view header) {
  TraceParentField found;
  HeaderScanner scanner(header);
  HeaderField field;
  while (scanner.next(field))
    if (equals_ignoring_case(field.name, kTraceParent)) {
      found.begin(field.value.substr(0, field.value.find('\r')));
      if (field.value.find('\n') != std::string_view::npos)
        found.go_on();
    }
  return found.value();
}

}  // namespace postrider::mail
