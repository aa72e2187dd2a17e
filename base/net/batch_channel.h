// Messages from one loop to another, in batches: whatever is put in during one turn of a loop
// crosses as one posted message.
#pragma once

#include "base/net/loop.h"

#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace postrider {

// Used on `from` only; `deliver` runs on `to`. Both loops outlive it.
template <class Item>
class BatchChannel : public std::enable_shared_from_this<BatchChannel<Item>> {
 public:
  using Deliver = std::function<void(std::vector<Item>)>;
  BatchChannel(Loop& from, Loop& to, Deliver deliver)
      : from_(from), to_(to), deliver_(std::make_shared<Deliver>(std::move(deliver))) {}

  void put(Item item) {
    items_.push_back(std::move(item));
    if (std::exchange(is_posted_, true))
      return;
    from_.post([self = this->shared_from_this()] { self->send(); });
  }

 private:
  void send() {
    is_posted_ = false;
    auto items = std::exchange(items_, {});
    if (&from_ == &to_) {
      (*deliver_)(std::move(items));
      return;
    }
    auto carried = std::make_shared<std::vector<Item>>(std::move(items));
    to_.post([deliver = deliver_, carried] { (*deliver)(std::move(*carried)); });
  }

  Loop& from_;
  Loop& to_;
  std::shared_ptr<Deliver> deliver_;
  std::vector<Item> items_;
  bool is_posted_ = false;
};

}  // namespace postrider
