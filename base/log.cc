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
  // escaped() leaves printable text without quotes and backslashes, but writes \xNN itself.
  for (const char c : escaped(value, kMostValue)) {
    if (c == '\\')
      line.push_back('\\');
    line.push_back(c);
  }
  line.push_back('"');
}

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
  packed_.reserve(256);
  packed_.append(id);
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
    line.append(" id=").append(escaped(event.id()));
  event.for_each([&](const char* key, std::string_view value) {
    line.append(" ").append(key).append("=");
    const bool quoted = needs_quotes(value);
    if (quoted)
      line.push_back('"');
    line.append(escaped(value, kMostValue));
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

struct BackgroundLog::State {
  LogTarget target;
  std::atomic<Level> least;
  SystemClock clock;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable written;
  std::vector<LogEvent> waiting;
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
  void write_out(std::vector<LogEvent>& events, const LogFormat& formatter,
                 spdlog::sinks::sink& out) const;
};

void BackgroundLog::State::write_out(std::vector<LogEvent>& events, const LogFormat& formatter,
                                     spdlog::sinks::sink& out) const {
  std::string line;
  for (const auto& event : events) {
    line.clear();
    formatter(event, line);
    if (line.empty())
      continue;  // this format has no line for this event
    // A format may make several lines of one event; values never hold a line end.
    for (const auto part : split(line, '\n')) {
      const spdlog::details::log_msg message("", spdlog_level(event.level()),
                                             spdlog::string_view_t(part.data(), part.size()));
      try {
        out.log(message);
      } catch (const std::exception&) {
        // The log's disk is full or gone; mail goes on.
      }
    }
  }
  try {
    out.flush();
  } catch (const std::exception&) {
  }
}

void BackgroundLog::State::run() {
  std::vector<LogEvent> events;
  std::unique_lock lock(mutex);
  while (!stopping || !waiting.empty()) {
    if (waiting.empty())
      wake.wait(lock, [&] { return stopping || !waiting.empty(); });
    if (!urgent && !stopping)
      wake.wait_for(lock, kCollect, [&] { return stopping || urgent; });
    urgent = false;
    events.swap(waiting);
    const auto count = events.size();
    if (const auto lost = std::exchange(dropped, 0); lost > 0) {
      events.push_back(LogEvent(Level::warn, "log_overrun").add("dropped", lost));
      events.back().when = clock.now();
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
    if (state_->waiting.size() >= kMostWaiting) {
      ++state_->dropped;
      return;
    }
    notify = state_->waiting.empty();
    if (event.level() >= Level::warn)
      notify = state_->urgent = true;
    state_->waiting.push_back(std::move(event));
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
