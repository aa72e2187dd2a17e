// What the line, or lines, of an event say. When it was, and what the line's target writes about it
// otherwise, is daemon/log/log_formatters.h.
#pragma once

#include "base/log.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

// The lines of one event. They hold no line ends: values are escaped.
class LogLines {
 public:
  struct Line {
    std::string program;  // who says it: "postrider", "postfix/smtpd"
    std::string text;
    Level level = Level::info;  // the event's, or what the line says of itself
  };

  // The text of a line more.
  std::string& begin(std::string_view program, Level level);
  void clear() { used_ = 0; }

  const Line* begin() const { return lines_.data(); }
  const Line* end() const { return lines_.data() + used_; }

 private:
  std::vector<Line> lines_;  // those behind the used ones keep their room
  std::size_t used_ = 0;
};

// No value takes more of a line than this.
constexpr std::size_t kMostValue = 1024;
const char* level_name(Level level);

class LogFormat {
 public:
  virtual ~LogFormat() = default;
  // Begins a line for each that the event has; none for what the format says elsewhere.
  virtual void write(const LogEvent& event, LogLines& lines) const = 0;
  // What begins a line where nothing else says when it was and who wrote it: a file, a terminal.
  virtual void write_stamp(const LogEvent& event, std::string_view program,
                           std::string& line) const = 0;
};

// 2026-11-23T13:34:44.123Z info accepted id=... from=<...> size=4096
class TextFormat : public LogFormat {
 public:
  void write(const LogEvent& event, LogLines& lines) const override;
  void write_stamp(const LogEvent& event, std::string_view program,
                   std::string& line) const override;
};

// {"time":"...","level":"info","event":"accepted","id":"...","from":"...","size":4096}
class JsonFormat : public LogFormat {
 public:
  void write(const LogEvent& event, LogLines& lines) const override;
  void write_stamp(const LogEvent& event, std::string_view program,
                   std::string& line) const override;
};

// Local time as syslog has it: "Nov 23 14:01:02".
std::string local_stamp(TimePoint when);

}  // namespace postrider::daemon
