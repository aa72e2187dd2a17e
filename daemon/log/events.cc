#include "daemon/log/events.h"

#include "base/assert.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <pthread.h>

namespace postrider::daemon {

namespace {

// SIGUSR2 wakes the thread so that it can end.
sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR2})
    sigaddset(&set, number);
  return set;
}

}  // namespace

Events::Events() {
  const auto set = handled_signals();
  POSTRIDER_ASSERT(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  std::signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this] { take_signals(); });
  pthread_setname_np(thread_.native_handle(), "signals");
}

Events::~Events() {
  ending_ = true;
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

void Events::take_signals() {
  const auto set = handled_signals();
  for (;;) {
    const int number = sigwaitinfo(&set, nullptr);
    if (number < 0) {
      POSTRIDER_ASSERT(errno == EINTR);
      continue;
    }
    if (ending_)
      return;
    if (number != SIGUSR2)
      post(number == SIGHUP ? Event::reload : Event::stop);
  }
}

void Events::post(Event event) {
  {
    const std::lock_guard lock(mutex_);
    // Reloads that nobody has begun are one, and none of them holds up a stop.
    if (event == Event::reload &&
        std::find(waiting_.begin(), waiting_.end(), event) != waiting_.end())
      return;
    if (event == Event::stop)
      waiting_.push_front(event);
    else
      waiting_.push_back(event);
  }
  arrived_.notify_one();
}

bool Events::wait(Duration limit, Event& event) {
  std::unique_lock lock(mutex_);
  if (!arrived_.wait_for(lock, limit, [&] { return !waiting_.empty(); }))
    return false;
  event = waiting_.front();
  waiting_.pop_front();
  return true;
}

}  // namespace postrider::daemon
