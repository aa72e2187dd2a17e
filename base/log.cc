#include "base/log.h"

#include "base/escaped_text.h"
#include "base/text.h"

namespace postrider {

namespace {

constexpr std::size_t kMostValue = 1024;

const char* level_name(Level level) {
  constexpr const char* names[] = {"debug", "info", "warn", "error"};
  return names[static_cast<int>(level)];
}

bool needs_quotes(std::string_view value) {
  return value.empty() || value.find_first_of(" =\"") != std::string_view::npos;
}

// The buffer of this thread's last event, for the next one.
thread_local std::string spare_buffer;

}  // namespace

LogEvent::LogEvent(Level level, const char* name, std::string_view id)
    : level_(level), name_(name), id_size_(static_cast<std::uint32_t>(id.size())) {
  packed_.swap(spare_buffer);
  packed_.clear();
  packed_.reserve(256);
  packed_.append(id);
}

LogEvent::~LogEvent() {
  if (packed_.capacity() > spare_buffer.capacity() && packed_.capacity() <= 4096)
    packed_.swap(spare_buffer);
}

LogEvent& LogEvent::add(const char* key, std::string_view value) & {
  const auto size = static_cast<std::uint32_t>(value.size());
  packed_.append(reinterpret_cast<const char*>(&key), sizeof key);
  packed_.append(reinterpret_cast<const char*>(&size), sizeof size);
  packed_.append(value);
  return *this;
}

LogEvent&& LogEvent::add(const char* key, std::string_view value) && {
  return std::move(static_cast<LogEvent&>(*this).add(key, value));
}

LogEvent&& LogEvent::add(const char* key, std::uint64_t value) && {
  return std::move(*this).add(key, std::to_string(value));
}

std::string_view LogEvent::value(std::string_view key) const {
  std::string_view found;
  for_each([&](const char* name, std::string_view value) {
    if (name == key)
      found = value;
  });
  return found;
}

void format_text(const LogEvent& event, std::string& line) {
  line.append(format_rfc3339(event.when)).append(" ").append(level_name(event.level()));
  line.append(" ").append(event.name());
  if (!event.id().empty())
    append_escaped_value(event.id(), line.append(" id="));
  event.for_each([&](const char* key, std::string_view value) {
    line.append(" ").append(key).append("=");
    const bool quoted = needs_quotes(value);
    if (quoted)
      line.push_back('"');
    append_escaped_value(value, line, kMostValue);
    if (quoted)
      line.push_back('"');
  });
}

}  // namespace postrider
