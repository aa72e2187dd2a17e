// What the main thread waits for: signals, and word that a stage of the stop has ended. Every
// other thread has the signals blocked.
#pragma once

#include "base/file.h"
#include "base/time.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

namespace postrider::daemon {

enum class Event : std::uint8_t {
  stop,       // SIGTERM, SIGINT
  reload,     // SIGHUP
  stage_done  // told by post()
};

class Events {
 public:
  // Blocks the signals in this thread and all that it starts from now on, ignores SIGPIPE, and
  // starts the thread that takes the signals.
  Events();
  ~Events();
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  void post(Event event);  // any thread
  // The next event, a stop before all others; false when the time has passed without one, or when
  // the other end of that socket is closed (-1: none is watched).
  bool wait(Duration limit, Event& event, int socket = -1);

 private:
  void take_signals();
  bool take(Event& event);

  std::mutex mutex_;
  FileDescriptor arrived_;  // readable: there may be an event
  std::deque<Event> waiting_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace postrider::daemon
