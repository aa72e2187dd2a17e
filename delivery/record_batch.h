// Records on their way to the queue: what ends in one turn of the loop goes there in one call.
#pragma once

#include "delivery/dispatch_context.h"
#include "queue/queue.h"

#include <functional>
#include <vector>

namespace postrider::delivery {

// On the dispatcher's loop.
class RecordBatch {
 public:
  // on_flushed: called when records have gone to the queue.
  RecordBatch(DispatchContext& context, std::function<void()> on_flushed)
      : context_(context), on_flushed_(std::move(on_flushed)) {}

  void push(queue::Record record);
  bool is_empty() const { return !flush_is_posted_; }

 private:
  void flush();

  DispatchContext& context_;
  std::function<void()> on_flushed_;
  std::vector<queue::Record> records_;
  bool flush_is_posted_ = false;
};

}  // namespace postrider::delivery
