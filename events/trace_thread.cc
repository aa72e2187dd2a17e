#include "events/trace_thread.h"

#include <algorithm>
#include <unistd.h>
#include <utility>

namespace postrider::events {

namespace {

constexpr std::size_t kMostInBatch = 8192;
constexpr std::uint64_t kBytesBeforeCheckpoint = 8U << 20U;
constexpr std::size_t kOverhead = 64;  // of a step in memory
constexpr int kNiceness = 10;

}  // namespace

TraceThread::TraceThread(TraceThreadSettings settings, const Clock& clock, Log& log)
    : StoreThread({settings.path, settings.most_waiting, settings.most_bytes, settings.again,
                   settings.trim_every, kBytesBeforeCheckpoint},
                  clock, log),
      settings_(std::move(settings)) {
  begin("trace", kNiceness);
}

TraceThread::~TraceThread() {
  stop();
}

void TraceThread::post(std::string step) {
  const auto size = step.size() + kOverhead;
  backlog_.post(std::move(step), size);
}

void TraceThread::reconfigure(TraceLimits limits) {
  {
    const std::lock_guard lock(mutex_);
    settings_.limits = limits;
  }
  backlog_.wake();
}

TraceLimits TraceThread::limits() const {
  const std::lock_guard lock(mutex_);
  return settings_.limits;
}

bool TraceThread::take_batch() {
  const bool is_urgent = batch_.empty() && backlog_.wait(1, settings_.trim_every);
  const auto now = clock_.steady();
  if (!is_urgent && batch_.empty() && backlog_.waiting() > 0 && now < next_write_)
    backlog_.wait(kMostInBatch, std::chrono::ceil<Duration>(next_write_ - now));
  const auto room = kMostInBatch - std::min(kMostInBatch, batch_.size());
  backlog_.take(room, [this](std::string step) { batch_.push_back(std::move(step)); });
  return !batch_.empty() || !backlog_.is_stopping();
}

bool TraceThread::write_batch() {
  if (limits().keep <= Duration(0)) {
    forget_all();
    return true;
  }
  const bool is_doubtful = take_suspicion();
  if (is_doubtful)
    store_.reset();  // a connection has pages in its cache that are damaged on the disk
  if (store_ && store_->is_replaced())
    failed(Error(Errc::corrupt, settings_.path + " is gone, or another file"));
  if (!store_ && !open_store(is_doubtful))
    return false;
  if (batch_.empty())
    return true;
  if (auto written = store_->append(batch_); !written) {
    failed(written.error());
    return false;
  }
  succeeded();
  next_write_ = clock_.steady() + settings_.pace;
  std::uint64_t bytes = 0;
  for (const auto& step : batch_)
    bytes += 2 * step.size();
  end_batch(batch_.size(), batch_.size());
  batch_.clear();
  settle(bytes);
  return true;
}

bool TraceThread::open_store(bool is_doubtful) {
  auto opened =
      TraceStore::open(settings_.path, limits(), settings_.vfs,
                       is_doubtful ? KeptDatabase::Check::all : KeptDatabase::Check::some);
  if (!opened) {
    failed(opened.error());
    return false;
  }
  store_.emplace(*std::move(opened));
  if (batch_.empty())
    succeeded();
  return true;
}

void TraceThread::give_up() {
  const auto left = backlog_.take(SIZE_MAX, [](std::string) {});
  backlog_.end(left + batch_.size(), left + batch_.size());
  batch_.clear();
}

void TraceThread::report_damage(const Error& error, const Result<void>& set_aside) {
  if (!set_aside && is_failing_)
    return;
  log_.write(
      LogEvent(Level::error, "trace_damaged")
          .add("reason", error.describe())
          .add("kept", set_aside ? settings_.path + ".damaged" : set_aside.error().describe()));
}

void TraceThread::report_failure(const Error& error) {
  log_.write(LogEvent(Level::error, "trace_not_written").add("reason", error.describe()));
}

void TraceThread::report_recovery() {
  log_.write(LogEvent(Level::info, "trace_written_again"));
}

void TraceThread::report_lost(std::uint64_t count) {
  log_.write(LogEvent(Level::error, "trace_lost").add("count", count));
}

// Slice after slice, as long as nothing is to be written.
void TraceThread::trim() {
  store_->limit(limits());
  for (bool more = true; more;) {
    const auto trimmed = store_->trim(clock_.now());
    if (!trimmed)
      return failed(trimmed.error());
    more = *trimmed;
    if (backlog_.is_urgent() || (backlog_.waiting() > 0 && clock_.steady() >= next_write_))
      break;
    if (!more)
      next_trim_ = clock_.steady() + settings_.trim_every;
  }
}

// Nothing is to be remembered, nor what was.
void TraceThread::forget_all() {
  store_.reset();
  for (const char* set : {"", ".damaged"})
    for (const char* end : {"", "-wal", "-shm"})
      (void)::unlink((settings_.path + set + end).c_str());
  backlog_.end(batch_.size());
  batch_.clear();
  if (is_failing_)
    succeeded();
}

}  // namespace postrider::events
