#include "daemon/log/background_log.h"

#include "daemon/log/log_formatters.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace postrider {

namespace {

constexpr std::size_t kMostWaiting = 65536;
constexpr std::size_t kMostWaitingBytes = 32U << 20U;
// Events are collected for this long, so that a busy daemon wakes the log thread rarely.
constexpr auto kCollect = std::chrono::milliseconds(20);

}  // namespace

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

namespace daemon {

namespace {

std::unique_ptr<spdlog::formatter> formatter_for(const LogTarget& target,
                                                 std::shared_ptr<const LogFormat> format) {
  switch (target.kind) {
    case LogTarget::Kind::syslog:
      return std::make_unique<SyslogFormatter>();
    case LogTarget::Kind::journal:
      return std::make_unique<JournalFormatter>();
    case LogTarget::Kind::standard_error:
    case LogTarget::Kind::file:
      break;
  }
  return std::make_unique<StampedFormatter>(std::move(format));
}

}  // namespace

struct BackgroundLog::State {
  LogTarget target;
  std::atomic<Level> least;
  SystemClock clock;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable written;
  LogBatch waiting;
  std::uint64_t dropped = 0;
  std::uint64_t being_reported = 0;  // more of them, in a line that is not written yet
  std::uint64_t taken = 0;           // events handed over so far
  std::uint64_t done = 0;            // events written so far
  bool urgent = false;
  bool stopping = false;
  std::shared_ptr<const LogFormat> format;
  std::shared_ptr<LineSink> sink;
  std::thread thread;

  void run();
  void open();

 private:
  // Outside the lock, so with copies of what reconfigure() and reopen() replace. How many lines
  // have still to be told as lost: those of now, and `lost` if that could not be said.
  std::uint64_t write_out(const LogBatch& events, std::uint64_t lost, const LogFormat& with,
                          LineSink& out);
  void write_all(const LogBatch& events, const LogFormat& with, LineSink& out);
  void write_one(const LogEvent& event, const LogFormat& with, LineSink& out);
  LogLines lines;  // of the log's thread
};

// A format never fails and a sink counts what it does not write; what is left is no memory.
void BackgroundLog::State::write_one(const LogEvent& event, const LogFormat& with, LineSink& out) {
  lines.clear();
  with.write(event, lines);
  for (const auto& line : lines)
    out.log(LineMessage(event, line));
}

void BackgroundLog::State::write_all(const LogBatch& events, const LogFormat& with, LineSink& out) {
  try {
    events.for_each([&](const LogEvent& event) { write_one(event, with, out); });
    out.flush();
  } catch (const std::exception&) {
    // Mail goes on.
  }
}

std::uint64_t BackgroundLog::State::write_out(const LogBatch& events, std::uint64_t lost,
                                              const LogFormat& with, LineSink& out) {
  if (lost > 0) {
    LogBatch overrun;
    auto event = LogEvent(Level::warn, "log_overrun").add("dropped", lost);
    event.when = clock.now();
    overrun.add(event);
    write_all(overrun, with, out);
    if (out.take_lost() == 0)
      lost = 0;
  }
  write_all(events, with, out);
  return lost + out.take_lost();
}

void BackgroundLog::State::run() {
  pthread_setname_np(::pthread_self(), "log");
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
    const auto lost = std::exchange(dropped, 0);
    being_reported = lost;
    const auto with = format;
    const auto out = sink;
    lock.unlock();
    const auto still_lost = write_out(events, lost, *with, *out);
    events.clear();
    lock.lock();
    being_reported = 0;
    dropped += still_lost;
    done += count;
    written.notify_all();
  }
}

// Throws std::system_error.
void BackgroundLog::State::open() {
  auto fresh = make_sink(target);
  const std::lock_guard lock(mutex);
  fresh->set_formatter(formatter_for(target, format));
  sink = std::move(fresh);
}

BackgroundLog::BackgroundLog(LogTarget target, std::shared_ptr<const LogFormat> format, Level least)
    : state_(std::make_unique<State>()) {
  state_->target = std::move(target);
  state_->least = least;
  state_->format = std::move(format);
  state_->open();
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

std::uint64_t BackgroundLog::lost() const {
  const std::lock_guard lock(state_->mutex);
  return state_->dropped + state_->being_reported;
}

void BackgroundLog::reconfigure(std::shared_ptr<const LogFormat> format, Level least) {
  flush();
  const std::lock_guard lock(state_->mutex);
  state_->sink->set_formatter(formatter_for(state_->target, format));
  state_->format = std::move(format);
  state_->least = least;
}

void BackgroundLog::reopen() {
  flush();
  try {
    state_->open();
  } catch (const std::exception& error) {
    // Better a line in the old file than none, and better none than no mail.
    write(LogEvent(Level::error, "log_not_reopened").add("why", error.what()));
  }
}

}  // namespace daemon
}  // namespace postrider
