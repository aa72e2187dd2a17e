#include "daemon/log/events.h"

#include "base/assert.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

Events::Events() : arrived_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  POSTRIDER_ASSERT(arrived_.is_open());
  const auto set = handled_signals();
  POSTRIDER_ASSERT(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  std::signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this] { take_signals(); });
}

Events::~Events() {
  ending_ = true;
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

void Events::take_signals() {
  pthread_setname_np(::pthread_self(), "signals");
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
  const std::uint64_t one = 1;
  (void)!::write(arrived_.get(), &one, sizeof one);
}

bool Events::take(Event& event) {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty())
    return false;
  event = waiting_.front();
  waiting_.pop_front();
  return true;
}

// What is posted behind the reading of the counter makes it readable again.
bool Events::wait(Duration limit, Event& event, int socket) {
  const auto until = std::chrono::steady_clock::now() + limit;
  for (;;) {
    std::uint64_t posted = 0;
    (void)!::read(arrived_.get(), &posted, sizeof posted);
    if (take(event))
      return true;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left <= std::chrono::milliseconds(0))
      return false;
    pollfd watched[] = {{arrived_.get(), POLLIN, 0}, {socket, 0, 0}};
    (void)::poll(watched, 2, static_cast<int>(std::min<std::int64_t>(left.count(), 3'600'000)));
    if (socket >= 0 && (watched[1].revents & (POLLHUP | POLLERR)) != 0)
      return take(event);
  }
}

}  // namespace postrider::daemon
