#include "daemon/log/log_formatters.h"

#include "base/text.h"

#include <string>
#include <syslog.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

spdlog::level::level_enum level_of(Level level) {
  constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info,
                                                  spdlog::level::warn, spdlog::level::err};
  return levels[static_cast<int>(level)];
}

spdlog::string_view_t view(std::string_view text) {
  return {text.data(), text.size()};
}

const LogEvent& event_of(const spdlog::details::log_msg& message) {
  return static_cast<const LineMessage&>(message).event;
}

int priority_of(const spdlog::details::log_msg& message) {
  return static_cast<const LineMessage&>(message).priority;
}

void append(spdlog::memory_buf_t& out, std::string_view text) {
  out.append(text.data(), text.data() + text.size());
}

std::string_view of(spdlog::string_view_t text) {
  return {text.data(), text.size()};
}

const std::string& process_id() {
  static const std::string id = std::to_string(getpid());
  return id;
}

// Values are escaped, so none has a line end and the simple form of a field is enough.
void append_field(spdlog::memory_buf_t& out, std::string_view name, std::string_view value) {
  append(out, name);
  append(out, "=");
  append(out, value);
  append(out, "\n");
}

// "tls_protocol" as POSTRIDER_TLS_PROTOCOL.
std::string field_name(std::string_view key) {
  std::string name = "POSTRIDER_";
  for (const char c : key)
    name.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - ('a' - 'A')) : c == '-' ? '_' : c);
  return name;
}

}  // namespace

LineMessage::LineMessage(const LogEvent& of_event, const LogLines::Line& line)
    : spdlog::details::log_msg(of_event.when, {}, view(line.program), level_of(line.level),
                               view(line.text)),
      event(of_event),
      priority(priority_of(line.level)) {}

int priority_of(Level level) {
  constexpr int priorities[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR};
  return priorities[static_cast<int>(level)];
}

StampedFormatter::StampedFormatter(std::shared_ptr<const LogFormat> format)
    : format_(std::move(format)) {}

void StampedFormatter::format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) {
  std::string stamp;
  format_->write_stamp(event_of(message), of(message.logger_name), stamp);
  append(out, stamp);
  append(out, of(message.payload));
  append(out, "\n");
}

std::unique_ptr<spdlog::formatter> StampedFormatter::clone() const {
  return std::make_unique<StampedFormatter>(format_);
}

void SyslogFormatter::format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) {
  const auto& event = event_of(message);
  append(out, "<" + std::to_string(LOG_MAIL | priority_of(message)) + ">");
  append(out, local_stamp(event.when) + " ");
  append(out, of(message.logger_name));
  append(out, "[" + process_id() + "]: ");
  append(out, of(message.payload));
}

std::unique_ptr<spdlog::formatter> SyslogFormatter::clone() const {
  return std::make_unique<SyslogFormatter>();
}

void JournalFormatter::format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) {
  const auto& event = event_of(message);
  append_field(out, "MESSAGE", of(message.payload));
  append_field(out, "PRIORITY", std::to_string(priority_of(message)));
  append_field(out, "SYSLOG_FACILITY", std::to_string(LOG_MAIL >> 3));
  append_field(out, "SYSLOG_IDENTIFIER", of(message.logger_name));
  append_field(out, "SYSLOG_PID", process_id());
  append_field(out, "POSTRIDER_EVENT", event.name());
  if (!event.id().empty())
    append_field(out, "POSTRIDER_ID", escaped(event.id(), kMostValue));
  event.for_each([&](std::string_view key, std::string_view value) {
    append_field(out, field_name(key == "notice" ? "id" : key), escaped(value, kMostValue));
  });
}

std::unique_ptr<spdlog::formatter> JournalFormatter::clone() const {
  return std::make_unique<JournalFormatter>();
}

}  // namespace postrider::daemon
