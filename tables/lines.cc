#include "tables/lines.h"

#include "base/case_fold.h"
#include "base/quoted.h"
#include "base/text.h"

namespace postrider::tables {

namespace {

constexpr std::size_t kMostKey = 1024;

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

bool is_ignored(std::string_view line) {
  const auto text = trim(line);
  return text.empty() || text.front() == '#';
}

// A quoted name at the start of `line`; false without its end.
bool take_quoted(std::string_view& line, std::string& out) {
  std::size_t at = 1;
  for (; at < line.size() && line[at] != '"'; ++at) {
    if (line[at] == '\\' && at + 1 < line.size())
      ++at;
    out.push_back(line[at]);
  }
  if (at >= line.size())
    return false;
  line.remove_prefix(at + 1);
  return true;
}

std::string finish(std::string key, std::string_view value, KeyValue& out) {
  if (key.empty())
    return "the name is missing";
  if (key.size() > kMostKey)
    return "the name is longer than " + std::to_string(kMostKey) + " octets";
  out.key = folded_case(key);
  out.value = trim(value);
  if (out.value.empty())
    return quote_value(out.key, 80) + " has no value";
  return {};
}

}  // namespace

LineReader::LineReader(std::string_view text) : rest_(text) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";
  if (rest_.starts_with(kMark))
    rest_.remove_prefix(kMark.size());
}

std::string_view LineReader::physical() {
  const auto end = rest_.find('\n');
  auto line = rest_.substr(0, end);
  rest_.remove_prefix(end == rest_.npos ? rest_.size() : end + 1);
  ++number_;
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  return line;
}

// Comments and empty lines may stand between a line and its continuation.
bool LineReader::at_continuation() const {
  return !rest_.empty() && (is_space(rest_.front()) || rest_.front() == '#' ||
                            rest_.front() == '\n' || rest_.front() == '\r');
}

bool LineReader::next(Line& line) {
  line.text.clear();
  while (!rest_.empty() && line.text.empty()) {
    const auto physical_line = physical();
    if (is_ignored(physical_line))
      continue;
    line.number = number_;
    line.text = trim(physical_line);
  }
  while (!line.text.empty() && at_continuation()) {
    const auto more = physical();
    if (is_ignored(more))
      continue;
    line.text.append(" ").append(trim(more));
    if (line.text.size() > kMostLine) {
      problem_ = "the line is longer than " + std::to_string(kMostLine) + " octets";
      while (at_continuation())
        physical();
      return false;
    }
  }
  if (line.text.find('\0') != line.text.npos) {
    problem_ = kNulInLine;
    return false;
  }
  return !line.text.empty();
}

std::string split_alias(std::string_view line, KeyValue& out) {
  std::string key;
  if (line.starts_with('"')) {
    if (!take_quoted(line, key))
      return "the closing quote of the name is missing";
    line = trim(line);
    if (!line.starts_with(':'))
      return "a colon must follow the name";
    return finish(std::move(key), line.substr(1), out);
  }
  const auto colon = line.find(':');
  if (colon == line.npos)
    return "a colon must follow the name";
  key = trim(line.substr(0, colon));
  if (key.find_first_of(" \t\"") != key.npos)
    return "a name with spaces or quotes must stand in double quotes";
  return finish(std::move(key), line.substr(colon + 1), out);
}

std::string split_entry(std::string_view line, KeyValue& out) {
  std::string key;
  if (line.starts_with('"')) {
    if (!take_quoted(line, key))
      return "the closing quote of the key is missing";
    return finish(std::move(key), line, out);
  }
  const auto space = line.find_first_of(" \t");
  key = line.substr(0, space);
  return finish(std::move(key), space == line.npos ? "" : line.substr(space), out);
}

}  // namespace postrider::tables
