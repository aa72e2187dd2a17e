// The sockets of the web server: accepts, reads requests within limits of size and time, and has
// each answered on a thread of a pool. One loop. When as many are connected as may be, the one that
// has said nothing complete for longest gives way.
#pragma once

#include "base/net/blocking_pool.h"
#include "base/net/loop.h"
#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace postrider {
class Log;
}

namespace postrider::web {

class WebSite;

class WebServer {
 public:
  struct Limits {
    std::size_t connections = 256;
    Duration request{10000};  // from its first octet, or the connection, to its end
    Duration idle{60000};     // between two requests
    Duration write{30000};    // to take an answer
    // Bodies above the usual 64 KiB: of all together, and how slowly one may come.
    std::uint64_t large = 48U << 20U;
    std::uint64_t octets_per_ms = 50;
  };
  // The loop, the site and the log outlive it.
  WebServer(Loop& loop, WebSite& site, Log& log, Limits limits);
  ~WebServer();  // after stop(), when the loop has no more children
  // "127.0.0.1:8025", "[::1]:8025" or "unix:/path" (mode 0660). Before the loop runs.
  Result<void> listen(const std::string& address);
  // Before the loop runs; the pool outlives that. It is made behind listen(), when all rights but
  // the needed ones are given up: a thread has those with which it was made.
  void answer_by(BlockingPool& pool);
  // On the loop's thread.
  void stop();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace postrider::web
