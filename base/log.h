// One event, one line. A Log takes events from any thread and formats them on its own thread, so
// the mail path pays for one buffer and no formatting. Typed functions, one per event, stand in
// smtpd/receiving_log.h and delivery/delivery_log.h; nothing else builds mail events.
#pragma once

#include "base/time.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace postrider {

enum class Level : std::uint8_t { debug, info, warn, error };

// id: the message or session the event is about; may be empty. Keys are string literals; values
// are kept raw and escaped when the line is formatted.
class LogEvent {
 public:
  LogEvent(Level level, const char* name, std::string_view id = {});
  ~LogEvent();
  LogEvent(const LogEvent&) = default;
  LogEvent(LogEvent&&) = default;
  LogEvent& operator=(const LogEvent&) = default;
  LogEvent& operator=(LogEvent&&) = default;
  LogEvent&& add(const char* key, std::string_view value) &&;
  LogEvent&& add(const char* key, std::uint64_t value) &&;
  LogEvent& add(const char* key, std::string_view value) &;

  Level level() const { return level_; }
  const char* name() const { return name_; }
  std::string_view id() const { return std::string_view(packed_).substr(0, id_size_); }
  TimePoint when;  // set by Log::write

  // Calls visit(const char* key, std::string_view value) for each field in order.
  template <class Visit>
  void for_each(Visit visit) const {
    std::size_t at = id_size_;
    while (at < packed_.size()) {
      const char* key = nullptr;
      std::uint32_t size = 0;
      std::memcpy(&key, packed_.data() + at, sizeof key);
      std::memcpy(&size, packed_.data() + at + sizeof key, sizeof size);
      at += sizeof key + sizeof size;
      visit(key, std::string_view(packed_).substr(at, size));
      at += size;
    }
  }
  std::string_view value(std::string_view key) const;  // empty if there is no such field

 private:
  friend class LogBatch;
  Level level_;
  const char* name_;
  std::uint32_t id_size_;
  std::string packed_;  // id, then per field: key pointer, length, bytes; recycled by thread
};

// Appends one line, without its end, to `line`; or several with ends between them; or nothing.
using LogFormat = std::function<void(const LogEvent& event, std::string& line)>;
// "2026-11-23T13:34:44.123Z info accepted id=... from=<...> size=4096"
void format_text(const LogEvent& event, std::string& line);
// {"time":"...","level":"info","event":"accepted","id":"...","from":"..."}
void format_json(const LogEvent& event, std::string& line);

// Thread-safe.
class Log {
 public:
  virtual ~Log() = default;
  virtual bool enabled(Level level) const = 0;
  virtual void write(LogEvent event) = 0;
};

// For tests and tools: drops everything.
class NullLog : public Log {
 public:
  bool enabled(Level) const override { return false; }
  void write(LogEvent) override {}
};

}  // namespace postrider
