// The content of a message of the queue, piece by piece, wherever it is.
#pragma once

#include "base/file.h"
#include "queue/queue.h"

#include <memory>
#include <string>

namespace postrider::daemon {

class ContentReader {
 public:
  ContentReader(queue::Queue& queue, std::shared_ptr<const mail::Message> message)
      : queue_(queue), message_(std::move(message)) {}
  // The next piece of the bytes, without the trace; empty at their end. Blocks.
  Result<void> next(std::string& piece);

 private:
  queue::Queue& queue_;
  std::shared_ptr<const mail::Message> message_;
  std::size_t at_ = 0;
  FileDescriptor file_;
};

}  // namespace postrider::daemon
