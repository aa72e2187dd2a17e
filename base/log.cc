#include "base/log.h"

#include "base/text.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace postrider {

namespace {

constexpr std::size_t kMostWaiting = 65536;
constexpr std::size_t kMostWaitingBytes = 32U << 20U;
constexpr std::size_t kBlock = 64U << 10U;  // lines are written in blocks of about this size
constexpr std::size_t kMostValue = 1024;
// Events are collected for this long, so that a busy daemon wakes the log thread rarely.
constexpr auto kCollect = std::chrono::milliseconds(20);

const char* level_name(Level level) {
  constexpr const char* names[] = {"debug", "info", "warn", "error"};
  return names[static_cast<int>(level)];
}

spdlog::level::level_enum spdlog_level(Level level) {
  constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info,
                                                  spdlog::level::warn, spdlog::level::err};
  return levels[static_cast<int>(level)];
}

bool needs_quotes(std::string_view value) {
  return value.empty() || value.find_first_of(" =\"") != std::string_view::npos;
}

void append_json_string(std::string_view value, std::string& line) {
  line.push_back('"');
  // append_escaped() leaves printable text without quotes and backslashes, but writes \xNN itself.
  auto at = line.size();
  append_escaped(value, line, kMostValue);
  while ((at = line.find('\\', at)) != std::string::npos) {
    line.insert(at, 1, '\\');
    at += 2;
  }
  line.push_back('"');
}

// The buffer of this thread's last event, for the next one.
thread_local std::string spare_buffer;

std::shared_ptr<spdlog::sinks::sink> make_sink(const LogTarget& target) {
  std::shared_ptr<spdlog::sinks::sink> sink;
  switch (target.kind) {
    case LogTarget::Kind::file:
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(target.path);
      break;
    case LogTarget::Kind::syslog:
      sink = std::make_shared<spdlog::sinks::syslog_sink_mt>("postrider", LOG_PID, LOG_MAIL, false);
      break;
    case LogTarget::Kind::standard_error:
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
      break;
  }
  sink->set_pattern("%v");
  return sink;
}

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
    append_escaped(event.id(), line.append(" id="));
  event.for_each([&](const char* key, std::string_view value) {
    line.append(" ").append(key).append("=");
    const bool quoted = needs_quotes(value);
    if (quoted)
      line.push_back('"');
    append_escaped(value, line, kMostValue);
    if (quoted)
      line.push_back('"');
  });
}

void format_json(const LogEvent& event, std::string& line) {
  line.append("{\"time\":\"").append(format_rfc3339(event.when)).append("\",\"level\":\"");
  line.append(level_name(event.level()))
      .append("\",\"event\":\"")
      .append(event.name())
      .append("\"");
  if (!event.id().empty()) {
    line.append(",\"id\":");
    append_json_string(event.id(), line);
  }
  event.for_each([&](const char* key, std::string_view value) {
    line.append(",\"").append(key).append("\":");
    append_json_string(value, line);
  });
  line.push_back('}');
}

// Events one behind the other in one buffer, so that handing one over copies it and allocates
// nothing once the buffers have grown.
class LogBatch {
 public:
  bool empty() const { return entries_.empty(); }
  std::size_t count() const { return entries_.size(); }
  bool full() const {
    return entries_.size() >= kMostWaiting || bytes_.size() >= kMostWaitingBytes;
  }

  void add(const LogEvent& event) {
    entries_.push_back(
        {event.level_, event.name_, event.id_size_, event.packed_.size(), event.when});
    bytes_.append(event.packed_);
  }

  template <class Visit>
  void for_each(Visit visit) const {
    LogEvent event(Level::info, "");
    std::size_t at = 0;
    for (const auto& entry : entries_) {
      event.level_ = entry.level;
      event.name_ = entry.name;
      event.id_size_ = entry.id_size;
      event.when = entry.when;
      event.packed_.assign(bytes_, at, entry.size);
      at += entry.size;
      visit(event);
    }
  }

  void clear() {
    entries_.clear();
    bytes_.clear();
  }

  void swap(LogBatch& other) noexcept {
    entries_.swap(other.entries_);
    bytes_.swap(other.bytes_);
  }

 private:
  struct Entry {
    Level level;
    const char* name;
    std::uint32_t id_size;
    std::size_t size;
    TimePoint when;
  };
  std::vector<Entry> entries_;
  std::string bytes_;
};

struct BackgroundLog::State {
  LogTarget target;
  std::atomic<Level> least;
  SystemClock clock;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable written;
  LogBatch waiting;
  std::uint64_t dropped = 0;
  std::uint64_t taken = 0;  // events handed over so far
  std::uint64_t done = 0;   // events written so far
  bool urgent = false;
  bool stopping = false;
  LogFormat format;
  std::shared_ptr<spdlog::sinks::sink> sink;
  std::thread thread;

  void run();
  // Outside the lock, so with copies of what reconfigure() and reopen() replace.
  void write_out(const LogBatch& events, const LogFormat& formatter,
                 spdlog::sinks::sink& out) const;
};

// Many lines go out in one write, except to syslog, where each line is a datagram with its level.
void BackgroundLog::State::write_out(const LogBatch& events, const LogFormat& formatter,
                                     spdlog::sinks::sink& out) const {
  std::string block;
  Level level = Level::info;
  const auto write_block = [&] {
    try {
      if (!block.empty())
        out.log({"", spdlog_level(level), spdlog::string_view_t(block.data(), block.size())});
    } catch (const std::exception&) {
      // The log's disk is full or gone; mail goes on.
    }
    block.clear();
  };
  const bool singly = target.kind == LogTarget::Kind::syslog;
  std::string line;
  events.for_each([&](const LogEvent& event) {
    line.clear();
    formatter(event, line);
    level = event.level();
    // A format may make several lines of one event, or none; values never hold a line end.
    for (const auto part : singly ? split(line, '\n') : std::vector<std::string_view>{line}) {
      if (part.empty())
        continue;
      if (!block.empty())
        block.push_back('\n');
      block.append(part);
      if (singly || block.size() >= kBlock)
        write_block();
    }
  });
  write_block();
  try {
    out.flush();
  } catch (const std::exception&) {
  }
}

void BackgroundLog::State::run() {
  LogBatch events;
  std::unique_lock lock(mutex);
  while (!stopping || !waiting.empty()) {
    if (waiting.empty())
      wake.wait(lock, [&] { return stopping || !waiting.empty(); });
    if (!urgent && !stopping)
      wake.wait_for(lock, kCollect, [&] { return stopping || urgent; });
    urgent = false;
    events.swap(waiting);
    const auto count = events.count();
    if (const auto lost = std::exchange(dropped, 0); lost > 0) {
      auto overrun = LogEvent(Level::warn, "log_overrun").add("dropped", lost);
      overrun.when = clock.now();
      events.add(overrun);
    }
    const LogFormat formatter = format;
    const auto out = sink;
    lock.unlock();
    write_out(events, formatter, *out);
    events.clear();
    lock.lock();
    done += count;
    written.notify_all();
  }
}

BackgroundLog::BackgroundLog(LogTarget target, LogFormat format, Level least)
    : state_(std::make_unique<State>()) {
  state_->target = std::move(target);
  state_->least = least;
  state_->format = std::move(format);
  state_->sink = make_sink(state_->target);
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

BackgroundLog::~BackgroundLog() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_one();
  state_->thread.join();
}

bool BackgroundLog::enabled(Level level) const {
  return level >= state_->least;
}

void BackgroundLog::write(LogEvent event) {
  if (!enabled(event.level()))
    return;
  event.when = state_->clock.now();
  bool notify = false;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->waiting.full()) {
      ++state_->dropped;
      return;
    }
    notify = state_->waiting.empty();
    if (event.level() >= Level::warn)
      notify = state_->urgent = true;
    state_->waiting.add(event);
    ++state_->taken;
  }
  if (notify)
    state_->wake.notify_one();
}

void BackgroundLog::flush() {
  std::unique_lock lock(state_->mutex);
  const auto target = state_->taken;
  state_->urgent = true;
  state_->wake.notify_one();
  state_->written.wait(lock, [&] { return state_->done >= target; });
}

void BackgroundLog::reconfigure(LogFormat format, Level least) {
  flush();
  const std::lock_guard lock(state_->mutex);
  state_->format = std::move(format);
  state_->least = least;
}

void BackgroundLog::reopen() {
  flush();
  std::shared_ptr<spdlog::sinks::sink> sink;
  try {
    sink = make_sink(state_->target);
  } catch (const std::exception& error) {
    // Better a line in the old file than none, and better none than no mail.
    write(LogEvent(Level::error, "log_not_reopened").add("why", error.what()));
    return;
  }
  const std::lock_guard lock(state_->mutex);
  state_->sink = std::move(sink);
}

}  // namespace postrider
