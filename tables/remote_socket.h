// Inside of tables/: a stream socket to a program that is asked questions, each step within a time.
// Blocking, for threads that may wait.
#pragma once

#include "base/file.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <sys/socket.h>

namespace postrider::tables {

using RemoteClock = std::chrono::steady_clock;

struct RemotePlace {
  sockaddr_storage address{};
  socklen_t size = 0;
  std::string path;  // of a Unix socket; empty: TCP
};

// "unix:/path", "inet:127.0.0.1:10001", "inet:[::1]:10001", "inet:localhost:10001". Errc::malformed
// with what is allowed.
Result<RemotePlace> parse_remote_place(std::string_view text);

// Until the descriptor is ready for what poll(2) calls that. Errc timed_out: not in time.
Result<void> wait_for(int descriptor, short events, RemoteClock::time_point until);

class RemoteSocket {
 public:
  Result<void> open(const RemotePlace& place, RemoteClock::time_point until);
  // Open, and nothing has come that nobody has asked for, the end included.
  bool is_quiet() const;
  void close() { socket_.reset(); }

  Result<void> send(std::string_view bytes, RemoteClock::time_point until);
  // Appends what comes next, at least one octet. Errc::truncated: the other side has hung up.
  Result<void> receive(std::string& to, RemoteClock::time_point until);
  // Sends the question and receives until `take` finds a whole answer in what has come, or an
  // error: Result<std::optional<std::string>>(std::string& got).
  template <class Take>
  Result<std::string> ask(std::string_view question, RemoteClock::time_point until, Take take) {
    if (auto sent = send(question, until); !sent)
      return sent.error();
    std::string got;
    for (;;) {
      auto answer = take(got);
      if (!answer)
        return answer.error();
      if (*answer)
        return **std::move(answer);
      if (auto more = receive(got, until); !more)
        return more.error();
    }
  }

 private:
  FileDescriptor socket_;
};

}  // namespace postrider::tables
