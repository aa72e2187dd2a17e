#include "events/outbox_thread.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <thread>
#include <utility>

namespace postrider::events {

namespace {

constexpr std::size_t kMostInBatch = 1024;
constexpr std::uint64_t kBytesBeforeCheckpoint = 4U << 20U;

}  // namespace

struct OutboxThread::State {
  State(OutboxThreadSettings settings_, const Clock& clock_, Log& log_)
      : settings(std::move(settings_)), clock(clock_), log(log_) {}

  const OutboxThreadSettings settings;
  const Clock& clock;
  Log& log;

  mutable std::mutex mutex;
  std::condition_variable arrived, settled;
  std::deque<CloudEvent> waiting;
  std::uint64_t posted = 0, ended = 0;  // ended: written or lost
  bool is_stopping = false;
  Counters counters;

  // Of the thread alone.
  std::optional<Outbox> outbox;
  std::vector<CloudEvent> batch;
  std::uint64_t lost_told = 0;
  bool is_failing = false;
  std::uint64_t unsettled = 0;
  SteadyTime next_trim;
  std::thread thread;

  void run();
  bool take_batch();
  bool write_batch();
  bool open();
  void failed(const Error& error);
  void succeeded();
  void tell_losses();
  void trim();
  std::uint64_t read_by_all() const;
  void end_batch(std::uint64_t Counters::*as);
};

OutboxThread::OutboxThread(OutboxThreadSettings settings, const Clock& clock, Log& log)
    : state_(std::make_unique<State>(std::move(settings), clock, log)) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
  pthread_setname_np(state_->thread.native_handle(), "events");
}

OutboxThread::~OutboxThread() {
  stop();
}

void OutboxThread::post(CloudEvent event) {
  const std::lock_guard lock(state_->mutex);
  if (state_->is_stopping || state_->waiting.size() >= state_->settings.most_waiting) {
    ++state_->counters.lost;
    return;
  }
  ++state_->posted;
  state_->waiting.push_back(std::move(event));
  if (state_->waiting.size() == 1)
    state_->arrived.notify_one();
}

bool OutboxThread::flush(Duration limit) {
  std::unique_lock lock(state_->mutex);
  const auto until = state_->posted;
  return state_->settled.wait_for(lock, limit, [&] { return state_->ended >= until; });
}

void OutboxThread::stop() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->is_stopping = true;
    state_->arrived.notify_one();
  }
  if (state_->thread.joinable())
    state_->thread.join();
}

OutboxThread::Counters OutboxThread::counters() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counters;
}

void OutboxThread::State::run() {
  while (take_batch()) {
    const bool done = write_batch();
    tell_losses();
    if (done && clock.steady() >= next_trim)
      trim();
    if (done)
      continue;
    std::unique_lock lock(mutex);
    if (is_stopping)
      break;
    arrived.wait_for(lock, settings.again, [&] { return is_stopping; });
  }
  {
    const std::lock_guard lock(mutex);
    for (; !waiting.empty(); waiting.pop_front())
      batch.push_back(std::move(waiting.front()));
  }
  end_batch(&Counters::lost);
  tell_losses();
}

// False: all is written, and it is time to go.
bool OutboxThread::State::take_batch() {
  std::unique_lock lock(mutex);
  if (batch.empty())
    arrived.wait_for(lock, settings.trim_every, [&] { return is_stopping || !waiting.empty(); });
  while (!waiting.empty() && batch.size() < kMostInBatch) {
    batch.push_back(std::move(waiting.front()));
    waiting.pop_front();
  }
  return !batch.empty() || !is_stopping;
}

bool OutboxThread::State::write_batch() {
  if (!outbox && !open())
    return false;
  if (batch.empty())
    return true;
  const auto before = outbox->bytes();
  if (auto written = outbox->append(batch); !written) {
    failed(written.error());
    return false;
  }
  succeeded();
  unsettled += outbox->bytes() - before;
  end_batch(&Counters::written);
  if (unsettled < kBytesBeforeCheckpoint)
    return true;
  unsettled = 0;
  if (auto done = outbox->checkpoint(); !done)
    failed(done.error());
  return true;
}

void OutboxThread::State::end_batch(std::uint64_t Counters::*as) {
  const std::lock_guard lock(mutex);
  counters.*as += batch.size();
  ended += batch.size();
  batch.clear();
  settled.notify_all();
}

bool OutboxThread::State::open() {
  auto opened = Outbox::open(settings.path, settings.source, settings.limits, settings.vfs);
  if (!opened) {
    failed(opened.error());
    return false;
  }
  outbox.emplace(*std::move(opened));
  return true;
}

// Once in a row of failures it is logged. The connection is made again: what SQLite thinks of a
// file after an error of the disk may be wrong.
void OutboxThread::State::failed(const Error& error) {
  {
    const std::lock_guard lock(mutex);
    ++counters.failures;
  }
  outbox.reset();
  const bool is_damage = queue::is_damage(error) || error.code() == Errc::corrupt;
  if (is_damage) {
    const auto aside = Outbox::set_aside(settings.path);
    log.write(LogEvent(Level::error, "events_damaged")
                  .add("reason", error.describe())
                  .add("kept", aside ? settings.path + ".damaged" : aside.error().describe()));
  } else if (!is_failing) {
    log.write(LogEvent(Level::error, "events_not_written").add("reason", error.describe()));
  }
  is_failing = true;
}

void OutboxThread::State::succeeded() {
  if (std::exchange(is_failing, false))
    log.write(LogEvent(Level::info, "events_written_again"));
}

void OutboxThread::State::tell_losses() {
  const auto lost = [&] {
    const std::lock_guard lock(mutex);
    return counters.lost;
  }();
  if (lost == lost_told)
    return;
  log.write(LogEvent(Level::error, "events_lost")
                .add("count", lost - lost_told)
                .add("reason", "they could not be written in time"));
  lost_told = lost;
}

// A reader that has not begun holds all back.
std::uint64_t OutboxThread::State::read_by_all() const {
  std::uint64_t least = outbox->last();
  for (const auto& path : settings.readers) {
    const auto position = read_position(path);
    const bool counts = position && position->outbox == outbox->name();
    least = std::min(least, counts ? position->sequence : 0);
  }
  return settings.readers.empty() ? 0 : least;
}

void OutboxThread::State::trim() {
  next_trim = clock.steady() + settings.trim_every;
  const auto lost = outbox->trim(read_by_all(), clock.now());
  if (!lost)
    return failed(lost.error());
  if (*lost == 0)
    return;
  {
    const std::lock_guard lock(mutex);
    counters.trimmed += *lost;
  }
  log.write(LogEvent(Level::error, "events_lost")
                .add("count", *lost)
                .add("reason", "too old or too much, and not yet read by all"));
}

}  // namespace postrider::events
