// Files that are added to, in the order in which it was asked for, by whatever thread has time.
#pragma once

#include "base/result.h"

#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace postrider::delivery {

class JournalFiles {
 public:
  // The folder is made when it is needed.
  explicit JournalFiles(std::string folder) : folder_(std::move(folder)) {}

  // Thread-safe; do not block. The text is made where it is written.
  using Text = std::function<std::string()>;
  void append(std::string name, Text text) {
    put({Order::Kind::append, std::move(name), std::move(text)});
  }
  void replace(std::string name, Text text) {
    put({Order::Kind::replace, std::move(name), std::move(text)});
  }
  void remove(std::string name) { put({Order::Kind::remove, std::move(name), {}}); }
  bool is_idle() const;  // all was done
  // What went wrong since it was last asked: then files may lack what was appended, or end in the
  // middle of a line.
  std::optional<Error> take_trouble();

  // Does what was asked for; blocks. Any thread; what is done is on the disk.
  void work();

 private:
  struct Order {
    enum class Kind { append, replace, remove };
    Kind kind;
    std::string name;
    Text text;
  };
  void put(Order order);
  bool next(Order& order);
  Result<void> carry_out(const Order& order) const;
  Result<void> append_to(const std::string& path, const std::string& text) const;

  const std::string folder_;
  std::mutex working_;
  mutable std::mutex mutex_;
  std::deque<Order> orders_;
  bool is_busy_ = false;
  std::optional<Error> trouble_;
};

}  // namespace postrider::delivery
