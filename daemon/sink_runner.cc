#include "daemon/sink_runner.h"

#include "events/webhook.h"

#include "base/random.h"

#include <pthread.h>
#include <sys/resource.h>

namespace postrider::daemon {

namespace {

// The outbox wakes us; this is for what it does not see, such as a file that was put in its place.
constexpr Duration kLook{10'000};
// Behind a batch that was not full, so that under load the next one is.
constexpr Duration kGather{50};
// Mail goes first where the processor is short.
constexpr int kNiceness = 15;

}  // namespace

SinkRunner::SinkRunner(events::PumpSettings settings, std::unique_ptr<events::Sink> sink,
                       const Clock& clock, Log& log)
    : clock_(clock), sink_(std::move(sink)), pump_(std::move(settings), *sink_, clock, log) {
  thread_ = std::thread([this] { run(); });
}

SinkRunner::~SinkRunner() {
  stop();
}

void SinkRunner::wake() {
  const std::lock_guard lock(mutex_);
  is_woken_ = true;
  if (may_be_woken_)
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
  pthread_setname_np(::pthread_self(), "event sink");
  (void)::setpriority(PRIO_PROCESS, 0, kNiceness);  // of this thread alone
  for (;;) {
    const auto done = step();
    const auto pause = pause_after(done);
    std::unique_lock lock(mutex_);
    if (is_stopping_)
      return pump_.settle();
    // While it fails, it waits for its own time, and while it gathers too.
    may_be_woken_ = done == events::Pump::Step::idle;
    if (pause > Duration(0))
      changed_.wait_for(lock, pause, [this] {
        return is_stopping_ || is_retried_ || wanted_ || (is_woken_ && may_be_woken_);
      });
    may_be_woken_ = false;
    is_woken_ = false;
    if (std::exchange(is_retried_, false))
      failures_ = 0;
    if (is_stopping_)
      return pump_.settle();
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
    if (step == events::Pump::Step::moved)
      return pump_.has_more() ? Duration(0) : kGather;
    return kLook;
  }
  SystemRandom random;
  const auto pause =
      events::webhook_pause(++failures_, static_cast<unsigned>(random.next() % 1000));
  const std::lock_guard lock(mutex_);
  state_.next_attempt = clock_.now() + pause;
  return pause;
}

}  // namespace postrider::daemon
