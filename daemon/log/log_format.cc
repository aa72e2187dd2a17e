#include "daemon/log/log_format.h"

#include "base/text.h"
#include "daemon/log/log_fields.h"

#include <array>
#include <cstdio>
#include <ctime>

namespace postrider::daemon {

const char* level_name(Level level) {
  constexpr const char* names[] = {"debug", "info", "warn", "error"};
  return names[static_cast<int>(level)];
}

std::string& LogLines::begin(std::string_view program, Level level) {
  if (used_ == lines_.size())
    lines_.emplace_back();
  auto& line = lines_[used_++];
  line.program = program;
  line.level = level;
  line.text.clear();
  return line.text;
}

void TextFormat::write(const LogEvent& event, LogLines& lines) const {
  auto& line = lines.begin("postrider", event.level());
  format_text(event, line);
  line.erase(0, line.find(' ') + 1);  // the time
}

void TextFormat::write_stamp(const LogEvent& event, std::string_view, std::string& line) const {
  line.append(format_rfc3339(event.when)).append(" ");
}

void JsonFormat::write(const LogEvent& event, LogLines& lines) const {
  auto& line = lines.begin("postrider", event.level());
  line.append(R"({"time":")").append(format_rfc3339(event.when));
  line.append(R"(","level":")").append(level_name(event.level()));
  line.append(R"(","event":")").append(event.name()).append("\"");
  if (!event.id().empty())
    append_json_string(event.id(), line.append(R"(,"id":)"), kMostValue);
  event.for_each([&](const char* key, std::string_view value) {
    line.append(",\"").append(key).append("\":");
    append_json_value(key, value, line, kMostValue);
  });
  line.push_back('}');
}

void JsonFormat::write_stamp(const LogEvent&, std::string_view, std::string&) const {}

std::string local_stamp(TimePoint when) {
  const auto seconds = std::chrono::system_clock::to_time_t(when);
  std::tm broken{};
  localtime_r(&seconds, &broken);
  std::array<char, 32> text{};
  // Not strftime(): the names of months are English whatever the locale.
  constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto size =
      std::snprintf(text.data(), text.size(), "%s %2d %02d:%02d:%02d", months[broken.tm_mon % 12],
                    broken.tm_mday, broken.tm_hour, broken.tm_min, broken.tm_sec);
  return {text.data(), static_cast<std::size_t>(size)};
}

}  // namespace postrider::daemon
