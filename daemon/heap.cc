#include "daemon/heap.h"

#include <malloc.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kWorthIt = 4U << 20U;

}  // namespace

void HeapKeeper::look() {
  const auto now = ::mallinfo2().fordblks;
  const auto change = now > unused_ ? now - unused_ : unused_ - now;
  if (change < kWorthIt)
    return;
  ::malloc_trim(0);
  unused_ = ::mallinfo2().fordblks;
}

}  // namespace postrider::daemon
