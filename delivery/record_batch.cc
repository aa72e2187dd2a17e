#include "delivery/record_batch.h"

#include <utility>

namespace postrider::delivery {

void RecordBatch::push(queue::Record record) {
  records_.push_back(std::move(record));
  if (std::exchange(flush_is_posted_, true))
    return;
  context_.home.post([this, alive = context_.alive()] { flush(); });
}

void RecordBatch::flush() {
  flush_is_posted_ = false;
  context_.queue->record(std::exchange(records_, {}));
  on_flushed_();
}

}  // namespace postrider::delivery
