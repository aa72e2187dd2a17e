#include "events/trace_thread.h"

#include "events/backlog.h"

#include <mutex>
#include <optional>
#include <pthread.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace postrider::events {

namespace {

constexpr std::size_t kMostInBatch = 8192;
constexpr std::uint64_t kBytesBeforeCheckpoint = 8U << 20U;
constexpr std::size_t kOverhead = 64;  // of a step in memory
// Mail goes first where the processor is short.
constexpr int kNiceness = 10;

}  // namespace

struct TraceThread::State {
  State(TraceThreadSettings settings_, const Clock& clock_, Log& log_)
      : settings(std::move(settings_)),
        clock(clock_),
        log(log_),
        backlog(settings.most_waiting, settings.most_bytes) {}

  TraceThreadSettings settings;  // limits: under the lock
  const Clock& clock;
  Log& log;
  Backlog<std::string> backlog;

  mutable std::mutex mutex;
  Counters counters;
  bool is_suspected = false;  // somebody has seen damage

  // Of the thread alone.
  std::optional<TraceStore> store;
  std::vector<std::string> batch;
  bool is_failing = false;
  std::uint64_t lost_told = 0;
  std::uint64_t unsettled = 0;  // octets since the last checkpoint
  SteadyTime next_write, next_trim;
  std::thread thread;

  void run();
  bool take_batch();
  bool write_batch();
  bool open();
  void failed(const Error& error);
  void succeeded();
  void tell_losses(bool is_end);
  void trim();
  void forget_all();
  TraceLimits limits() const;
  bool take_suspicion();
};

TraceThread::TraceThread(TraceThreadSettings settings, const Clock& clock, Log& log)
    : state_(std::make_unique<State>(std::move(settings), clock, log)) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
  pthread_setname_np(state_->thread.native_handle(), "trace");
}

TraceThread::~TraceThread() {
  stop();
}

void TraceThread::post(std::string step) {
  const auto size = step.size() + kOverhead;
  state_->backlog.post(std::move(step), size);
}

void TraceThread::reconfigure(TraceLimits limits) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->settings.limits = limits;
  }
  state_->backlog.wake();
}

void TraceThread::suspect_damage() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->is_suspected = true;
  }
  state_->backlog.wake();
}

bool TraceThread::flush(Duration limit) {
  return state_->backlog.flush(limit);
}

void TraceThread::stop() {
  state_->backlog.stop();
  if (state_->thread.joinable())
    state_->thread.join();
}

TraceThread::Counters TraceThread::counters() const {
  const std::lock_guard lock(state_->mutex);
  auto counters = state_->counters;
  counters.waiting = state_->backlog.waiting();
  counters.lost = state_->backlog.lost();
  return counters;
}

TraceLimits TraceThread::State::limits() const {
  const std::lock_guard lock(mutex);
  return settings.limits;
}

bool TraceThread::State::take_suspicion() {
  const std::lock_guard lock(mutex);
  return std::exchange(is_suspected, false);
}

void TraceThread::State::run() {
  (void)::setpriority(PRIO_PROCESS, 0, kNiceness);  // of this thread alone
  while (take_batch()) {
    const bool done = limits().keep <= Duration(0) ? (forget_all(), true) : write_batch();
    tell_losses(false);
    if (done && store && clock.steady() >= next_trim)
      trim();
    if (done)
      continue;
    if (backlog.is_stopping())
      break;
    backlog.pause(settings.again);
  }
  const auto left = backlog.take(SIZE_MAX, [](std::string) {});
  backlog.end(left + batch.size(), left + batch.size());
  batch.clear();
  tell_losses(true);
}

// False: all is written, and it is time to go.
bool TraceThread::State::take_batch() {
  const bool is_urgent = batch.empty() && backlog.wait(1, settings.trim_every);
  const auto now = clock.steady();
  if (!is_urgent && batch.empty() && backlog.waiting() > 0 && now < next_write)
    backlog.wait(kMostInBatch, std::chrono::ceil<Duration>(next_write - now));
  const auto room = kMostInBatch - std::min(kMostInBatch, batch.size());
  backlog.take(room, [this](std::string step) { batch.push_back(std::move(step)); });
  return !batch.empty() || !backlog.is_stopping();
}

bool TraceThread::State::write_batch() {
  const bool is_doubtful = take_suspicion();
  if (is_doubtful)
    store.reset();  // a connection has pages in its cache that are damaged on the disk
  if (store && store->is_replaced())
    failed(Error(Errc::corrupt, settings.path + " is gone, or another file"));
  if (!store) {
    auto opened =
        TraceStore::open(settings.path, limits(), settings.vfs,
                         is_doubtful ? KeptDatabase::Check::all : KeptDatabase::Check::some);
    if (!opened) {
      failed(opened.error());
      return false;
    }
    store.emplace(*std::move(opened));
    if (batch.empty())
      succeeded();
  }
  if (batch.empty())
    return true;
  if (auto written = store->append(batch); !written) {
    failed(written.error());
    return false;
  }
  succeeded();
  next_write = clock.steady() + settings.pace;
  for (const auto& step : batch)
    unsettled += 2 * step.size();
  {
    const std::lock_guard lock(mutex);
    counters.written += batch.size();
  }
  backlog.end(batch.size());
  batch.clear();
  if (unsettled < kBytesBeforeCheckpoint)
    return true;
  unsettled = 0;
  if (auto done = store->checkpoint(); !done) {
    failed(done.error());
    return false;
  }
  return true;
}

// Once in a row of failures it is logged. The connection is made again: what SQLite thinks of a
// file after an error of the disk may be wrong.
void TraceThread::State::failed(const Error& error) {
  {
    const std::lock_guard lock(mutex);
    counters.error = error.describe();
  }
  store.reset();
  if (is_damaged(error)) {
    const auto aside = KeptDatabase::set_aside(settings.path);
    if (aside || !is_failing)
      log.write(LogEvent(Level::error, "trace_damaged")
                    .add("reason", error.describe())
                    .add("kept", aside ? settings.path + ".damaged" : aside.error().describe()));
  } else if (!is_failing) {
    log.write(LogEvent(Level::error, "trace_not_written").add("reason", error.describe()));
  }
  is_failing = true;
}

void TraceThread::State::succeeded() {
  {
    const std::lock_guard lock(mutex);
    counters.error.clear();
  }
  if (std::exchange(is_failing, false))
    log.write(LogEvent(Level::info, "trace_written_again"));
}

// All that were lost in a row of failures, once it is over.
void TraceThread::State::tell_losses(bool is_end) {
  const auto lost = backlog.lost();
  if ((is_failing && !is_end) || lost == lost_told)
    return;
  log.write(LogEvent(Level::error, "trace_lost").add("count", lost - lost_told));
  lost_told = lost;
}

// Slice after slice, as long as nothing is to be written.
void TraceThread::State::trim() {
  store->limit(limits());
  for (bool more = true; more;) {
    const auto trimmed = store->trim(clock.now());
    if (!trimmed)
      return failed(trimmed.error());
    more = *trimmed;
    if (backlog.is_urgent() || (backlog.waiting() > 0 && clock.steady() >= next_write))
      break;
    if (!more)
      next_trim = clock.steady() + settings.trim_every;
  }
}

// Nothing is to be remembered, nor what was.
void TraceThread::State::forget_all() {
  store.reset();
  for (const char* set : {"", ".damaged"})
    for (const char* end : {"", "-wal", "-shm"})
      (void)::unlink((settings.path + set + end).c_str());
  backlog.end(batch.size());
  batch.clear();
  if (is_failing)
    succeeded();
}

}  // namespace postrider::events
