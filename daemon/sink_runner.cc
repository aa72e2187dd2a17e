#include "daemon/sink_runner.h"

#include "events/webhook.h"

#include "base/random.h"

#include <pthread.h>

namespace postrider::daemon {

namespace {

// The outbox wakes us; this is for what it does not see, such as a file that was put in its place.
constexpr Duration kLook{10'000};

}  // namespace

SinkRunner::SinkRunner(events::PumpSettings settings, std::unique_ptr<events::Sink> sink,
                       const Clock& clock, Log& log)
    : clock_(clock), sink_(std::move(sink)), pump_(std::move(settings), *sink_, log) {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "event sink");
}

SinkRunner::~SinkRunner() {
  stop();
}

void SinkRunner::wake() {
  const std::lock_guard lock(mutex_);
  is_woken_ = true;
  if (state_.error.empty())  // while it fails, it waits for its own time
    changed_.notify_one();
}

void SinkRunner::retry() {
  const std::lock_guard lock(mutex_);
  is_retried_ = true;
  changed_.notify_one();
}

void SinkRunner::replay(events::Position position) {
  const std::lock_guard lock(mutex_);
  wanted_ = std::move(position);
  changed_.notify_one();
}

SinkRunner::State SinkRunner::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void SinkRunner::begin_stop() {
  sink_->stop();
  const std::lock_guard lock(mutex_);
  is_stopping_ = true;
  changed_.notify_one();
}

void SinkRunner::stop() {
  begin_stop();
  if (thread_.joinable())
    thread_.join();
}

void SinkRunner::run() {
  for (;;) {
    const auto pause = pause_after(step());
    std::unique_lock lock(mutex_);
    if (is_stopping_)
      return;
    if (pause > Duration(0))
      changed_.wait_for(lock, pause, [this] {
        return is_stopping_ || is_retried_ || wanted_ || (is_woken_ && state_.error.empty());
      });
    is_woken_ = false;
    if (std::exchange(is_retried_, false))
      failures_ = 0;
    if (is_stopping_)
      return;
    if (wanted_)
      pump_.go_to(*std::exchange(wanted_, std::nullopt));
  }
}

events::Pump::Step SinkRunner::step() {
  const auto done = pump_.step();
  const std::lock_guard lock(mutex_);
  if (state_.error.empty() && !pump_.error().empty())
    state_.failing_since = clock_.now();
  state_.counters = pump_.counters();
  state_.position = pump_.position();
  state_.error = pump_.error();
  return done;
}

Duration SinkRunner::pause_after(events::Pump::Step step) {
  if (step != events::Pump::Step::failed) {
    failures_ = 0;
    return step == events::Pump::Step::moved ? Duration(0) : kLook;
  }
  SystemRandom random;
  const auto pause =
      events::webhook_pause(++failures_, static_cast<unsigned>(random.next() % 1000));
  const std::lock_guard lock(mutex_);
  state_.next_attempt = clock_.now() + pause;
  return pause;
}

}  // namespace postrider::daemon
