#include "mail/header.h"

#include "base/text.h"
#include "mail/byte_finder.h"
#include "mail/hops.h"

#include <algorithm>
#include <cstdio>

namespace postrider::mail {

namespace {

// Where the line that starts at `at` ends, behind its LF.
std::size_t line_end(std::string_view text, std::size_t at) {
  const auto lf = text.find('\n', at);
  return lf == std::string_view::npos ? text.size() : lf + 1;
}

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n'))
    line.remove_suffix(1);
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  return line;
}

// A word in Received: what a client calls itself must not look like anything else there.
std::string token(std::string_view text) {
  std::string out(text.substr(0, 255));
  for (char& c : out)
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7F ||
        std::string_view("()<>\"\\,;@").find(c) != std::string_view::npos)
      c = '?';
  return out.empty() ? "unknown" : out;
}

// The inside of a comment: one line of ASCII, and no parentheses that could end it.
std::string comment(std::string_view text) {
  std::string out(text.substr(0, 255));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F || c == '(' ||
        c == ')' || c == '\\')
      c = '?';
  return out;
}

// Folded behind its commas.
std::string tls_comment(std::string_view text) {
  auto out = comment(text);
  for (auto at = out.find(", "); at != std::string::npos; at = out.find(", ", at + 1))
    out.replace(at, 2, ",\r\n\t ");
  return out;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

constexpr std::string_view kMailboxLine = "X-Mailbox-Line";

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

// "From " as a mailbox or UUCP puts it, however often it was quoted on its way.
bool is_mailbox_line(std::string_view line) {
  line.remove_prefix(std::min(line.find_first_not_of('>'), line.size()));
  return line.starts_with("From ");
}

}  // namespace

// White space before the colon is obsolete syntax (RFC 5322 §4.5) that exists.
std::string_view field_name(std::string_view line) {
  const auto colon = line.substr(0, kMostOfFieldName + 1).find(':');
  if (colon == std::string_view::npos)
    return {};
  auto name = line.substr(0, colon);
  while (!name.empty() && is_space(name.back()))
    name.remove_suffix(1);
  for (const char c : name)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7F)
      return {};
  return name;
}

HeaderLine judge_header_line(std::string_view line, bool first) {
  line = without_line_end(line);
  if (line.empty())
    return HeaderLine::empty;
  if (is_space(line.front()))
    return first ? HeaderLine::indented : HeaderLine::continuation;
  if (!field_name(line).empty())
    return HeaderLine::field;
  return first && is_mailbox_line(line) ? HeaderLine::mailbox_line : HeaderLine::other;
}

std::string_view header_joint(HeaderLine first_line, bool adds_fields) {
  if (first_line == HeaderLine::mailbox_line)
    return "X-Mailbox-Line: ";
  const bool ends =
      first_line == HeaderLine::indented || (first_line == HeaderLine::other && adds_fields);
  return ends ? "\r\n" : "";
}

HeaderLine first_header_line(std::string_view content) {
  return judge_header_line(content.substr(0, line_end(content, 0)), true);
}

bool HeaderScanner::next(HeaderField& field) {
  std::size_t end = line_end(rest_, 0);
  const auto first = rest_.substr(0, end);
  const auto kind = judge_header_line(first, consumed_ == 0);
  const bool is_field = kind == HeaderLine::field;
  if (!is_field && kind != HeaderLine::mailbox_line)
    return false;
  while (end < rest_.size() &&
         judge_header_line(rest_.substr(end, 1), false) == HeaderLine::continuation)
    end = line_end(rest_, end);
  field.name = is_field ? field_name(first) : kMailboxLine;
  field.whole = rest_.substr(0, end);
  field.value = without_line_end(field.whole);
  if (is_field)
    field.value.remove_prefix(std::min(first.find(':') + 1, field.value.size()));
  rest_.remove_prefix(end);
  consumed_ += end;
  return true;
}

HeaderFacts header_facts(std::string_view content) {
  HeaderFacts facts;
  HeaderScanner scanner(content);
  HeaderField field;
  while (scanner.next(field)) {
    const auto is = [&](std::string_view name) { return equals_ignoring_case(field.name, name); };
    if (is_received_field(field.name))
      ++facts.received_fields;
    facts.has_date = facts.has_date || is("Date");
    facts.has_message_id = facts.has_message_id || is("Message-ID");
    facts.has_from = facts.has_from || is("From");
    facts.tls_not_required =
        facts.tls_not_required || says_tls_not_required(field.name, field.value);
    if (!facts.precedence && is("Precedence"))
      facts.precedence = parse_precedence(field.value);
  }
  facts.size = scanner.consumed();
  facts.first_line = first_header_line(content);
  return facts;
}

bool says_tls_not_required(std::string_view name, std::string_view value) {
  if (!equals_ignoring_case(name, "TLS-Required"))
    return false;
  constexpr auto kSpace = " \t\r\n";
  const auto first = value.find_first_not_of(kSpace);
  if (first == std::string_view::npos)
    return false;
  return equals_ignoring_case(value.substr(first, value.find_last_not_of(kSpace) + 1 - first),
                              "No");
}

std::size_t header_section_size(std::string_view content) {
  HeaderScanner scanner(content);
  HeaderField field;
  while (scanner.next(field)) {
  }
  const auto rest = content.substr(scanner.consumed());
  if (rest.starts_with("\r\n"))
    return scanner.consumed() + 2;
  return scanner.consumed() + (rest.starts_with('\n') ? 1U : 0U);
}

void end_header_cleanly(std::string& content) {
  HeaderScanner scanner(content);
  HeaderField field;
  while (scanner.next(field)) {
  }
  const auto rest = std::string_view(content).substr(scanner.consumed());
  const auto line = rest.substr(0, line_end(rest, 0));
  if (scanner.consumed() > 0 && judge_header_line(line, false) == HeaderLine::other)
    content.insert(scanner.consumed(), "\r\n");
}

std::string format_date(TimePoint when) {
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto midnight = std::chrono::floor<std::chrono::days>(when);
  const std::chrono::year_month_day day(midnight);
  const std::chrono::hh_mm_ss time(std::chrono::floor<std::chrono::seconds>(when - midnight));
  char text[64];
  const int size = std::snprintf(
      text, sizeof text, "%s, %u %s %d %02d:%02d:%02d +0000",
      kDays[std::chrono::weekday(midnight).c_encoding()], static_cast<unsigned>(day.day()),
      kMonths[static_cast<unsigned>(day.month()) - 1], static_cast<int>(day.year()),
      static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
      static_cast<int>(time.seconds().count()));
  return std::string(text, static_cast<std::size_t>(size));
}

std::string received_field(const TraceInfo& info) {
  std::string out;
  out.reserve(384);
  out.append("Received: ");
  if (!info.client.empty()) {
    out.append("from ").append(token(info.helo)).append(" (");
    if (!info.client_name.empty())
      out.append(token(info.client_name)).append(1, ' ');
    out.append(comment(info.client)).append(")\r\n\t");
  }
  out.append("by ").append(token(info.by)).append(" (Postrider) with ");
  out.append(token(info.protocol)).append(" id ").append(to_string(info.id));
  if (!info.tls.empty())
    out.append("\r\n\t(").append(tls_comment(info.tls)).append(")");
  if (!info.recipient.empty() && info.recipient.size() <= 320 && !has_control(info.recipient))
    out.append("\r\n\tfor <").append(info.recipient).append(">");
  if (!info.tls_cipher.empty())
    out.append("\r\n\ttls ").append(token(info.tls_cipher));
  if (info.priority != 0)
    out.append("\r\n\tpriority ").append(std::to_string(info.priority));
  return out.append(";\r\n\t").append(format_date(info.when)).append("\r\n");
}

std::string make_message_id(MessageId id, std::string_view host) {
  const TimePoint when{Duration(id.value / 1000)};  // an id is a time in microseconds
  const auto midnight = std::chrono::floor<std::chrono::days>(when);
  const std::chrono::year_month_day day(midnight);
  const std::chrono::hh_mm_ss time(std::chrono::floor<std::chrono::seconds>(when - midnight));
  char text[64];
  const int size = std::snprintf(
      text, sizeof text, "<%04d%02u%02u%02d%02d%02d.", static_cast<int>(day.year()),
      static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()),
      static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
      static_cast<int>(time.seconds().count()));
  std::string out(text, static_cast<std::size_t>(size));
  return out.append(to_string(id)).append(1, '@').append(token(host)).append(1, '>');
}

void LineEndCleaner::feed(std::string_view in, std::string& out) {
  ByteFinder cr(in, '\r');
  ByteFinder lf(in, '\n');
  ByteFinder nul(in, '\0');
  std::size_t at = 0;
  while (at < in.size()) {
    const char c = in[at];
    if (after_cr_ && c != '\n' && c != '\0') {
      out.push_back(' ');
      after_cr_ = at_line_start_ = false;
    }
    if (c == '\n') {
      out.append("\r\n");
      after_cr_ = false;
      at_line_start_ = true;
      ++at;
    } else if (c == '\r' || c == '\0') {
      after_cr_ = after_cr_ || c == '\r';
      ++at;
    } else {
      const auto stop = std::min({cr.from(at), lf.from(at), nul.from(at)});
      out.append(in.substr(at, stop - at));
      at_line_start_ = false;
      at = stop;
    }
  }
}

void LineEndCleaner::finish(std::string& out) {
  if (after_cr_ || !at_line_start_)
    out.append("\r\n");
  after_cr_ = false;
  at_line_start_ = true;
}

}  // namespace postrider::mail
