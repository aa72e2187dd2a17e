// Read buffers and reply buffers of one loop. A connection borrows one while it has something to
// do; an idle one holds none. Not thread-safe: lives on its loop.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace postrider::smtpd {

struct IoBuffer {
  static constexpr std::size_t kSize = 32U << 10U;
  std::array<char, kSize> in;
  std::size_t begin = 0;  // what has arrived and was not worked through: [begin, end)
  std::size_t end = 0;
  std::string replies;
};

class BufferPool {
 public:
  struct GiveBack {
    BufferPool* pool;
    void operator()(IoBuffer* buffer) const { pool->give_back(buffer); }
  };
  using Lease = std::unique_ptr<IoBuffer, GiveBack>;

  Lease borrow() {
    if (free_.empty())
      return {new IoBuffer, GiveBack{this}};
    Lease lease(free_.back().release(), GiveBack{this});
    free_.pop_back();
    return lease;
  }

 private:
  static constexpr std::size_t kMostFree = 64;

  void give_back(IoBuffer* buffer) {
    std::unique_ptr<IoBuffer> owned(buffer);
    if (free_.size() >= kMostFree)
      return;
    owned->begin = owned->end = 0;
    owned->replies.clear();
    free_.push_back(std::move(owned));
  }

  std::vector<std::unique_ptr<IoBuffer>> free_;
};

}  // namespace postrider::smtpd
