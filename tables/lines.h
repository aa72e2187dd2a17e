// Files of lines as Postfix's users know them: comments and empty lines are skipped, a line that
// begins with space or tab continues the one before. Pure.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider::tables {

inline constexpr const char* kNulInLine = "there is a NUL octet in the line";
inline constexpr std::size_t kMostLine = 4U << 20U;  // octets, continuations included

struct Line {
  std::size_t number = 0;  // of the first physical line, from 1
  std::string text;        // without line ends and the space around it
};

class LineReader {
 public:
  explicit LineReader(std::string_view text);  // a byte order mark at its start is not a part of it
  // False at the end, or where problem() is not empty: then `line` is what could be read of it, and
  // go_on() leads to the next.
  bool next(Line& line);
  const std::string& problem() const { return problem_; }
  void go_on() { problem_.clear(); }              // behind the line with the problem
  std::size_t number() const { return number_; }  // of the last physical line read

 private:
  std::string_view physical();
  bool at_continuation() const;

  std::string_view rest_;
  std::size_t number_ = 0;
  std::string problem_;
};

// "name: value" of an aliases file or "key value" of a table; the name may stand in double quotes,
// where a backslash takes the next octet as it is. The problem, or empty.
struct KeyValue {
  std::string key;  // lower case, without quotes
  std::string value;
};
std::string split_alias(std::string_view line, KeyValue& out);
std::string split_entry(std::string_view line, KeyValue& out);

}  // namespace postrider::tables
