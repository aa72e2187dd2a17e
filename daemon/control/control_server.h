// The administrator's door: a Unix socket for root, the daemon's user and members of its group
// (SO_PEERCRED, SO_PEERGROUPS; attacks.md I14), and for questions alone, members of a group of
// readers, who have places and threads of their own. Accepts and writes on one loop; reads of the queue
// run on threads of its own, a page at a time, and the next page is read when the last was taken.
// Long jobs have other threads than short ones, so `show` and `explain` never wait for a listing; a
// job ends when its client leaves. Clients beyond the most wait until one has been served, and one
// that does not say what it wants gives way to them.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "base/result.h"

#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>

namespace postrider::daemon {

class ControlService;

class ControlServer {
 public:
  struct Limits {
    std::size_t connections = 32;                 // of administrators
    std::size_t readers = 16, of_one_reader = 4;  // connections; more are sent away
    Duration request{std::chrono::seconds(10)};   // to send it
    Duration silence{std::chrono::seconds(1)};    // before it, while others wait
    Duration write{std::chrono::seconds(60)};     // to take a page
    std::size_t unread =
        64U << 20U;  // octets of pages that wait to be taken, of each kind of asker
    Duration work{std::chrono::minutes(10)};  // of a job that may be cut off, or of a reader
  };
  // Binds, after privileges were given up; replaces a socket that nobody listens on, refuses one
  // that is in use. Makes the folder of the path if it is missing.
  static Result<std::unique_ptr<ControlServer>> open(std::string path, Loop& loop,
                                                     ControlService& service, Log& log,
                                                     Limits limits);
  ~ControlServer();  // after stop(), when the loop has no more children
  void start();      // on the loop's thread, or before it runs
  // Members of this group may ask from now on; nullopt: only administrators, as at the start. What is
  // being answered goes on. On the loop's thread, or before it runs.
  Result<void> set_readers(std::optional<gid_t> group);
  // On the loop's thread: no more connections; ends those that there are; removes the socket.
  void stop();

 private:
  struct State;
  explicit ControlServer(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace postrider::daemon
