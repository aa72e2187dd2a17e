// Events to a program on this machine, by a Unix stream socket that it listens on. A batch is its
// events, a line each, and an empty line; the program answers "ok" and a line end once it has them.
// Any other line, which is the reason, silence, and an end of the connection are failures: the
// batch comes again. Blocks, but no longer than the limit; of one thread.
#pragma once

#include "events/pump.h"

#include "base/file.h"
#include "base/time.h"

#include <atomic>
#include <string>
#include <vector>

namespace postrider::events {

class SocketSink : public Sink {
 public:
  // Clock outlives it.
  SocketSink(std::string path, Duration limit, const Clock& clock)
      : path_(std::move(path)), limit_(limit), clock_(clock) {}
  Result<void> deliver(const std::string& id, const std::vector<std::string>& events) override;
  void stop() override { is_stopping_ = true; }

 private:
  Result<void> connect();
  Result<void> exchange(const std::string& text);
  Result<void> send(std::string_view text, SteadyTime until);
  Result<void> read_answer(SteadyTime until);
  Result<void> wait_for(short what, SteadyTime until);

  std::string path_;
  Duration limit_;
  const Clock& clock_;
  FileDescriptor socket_;
  std::atomic<bool> is_stopping_{false};
};

}  // namespace postrider::events
