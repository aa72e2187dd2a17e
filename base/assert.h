// For what cannot happen: always on, says where, and aborts. A restart loses nothing that was
// acknowledged, so stopping is safer than going on with a broken invariant.
#pragma once

namespace postrider {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace postrider

#define POSTRIDER_ASSERT(condition)   \
  ((condition) ? static_cast<void>(0) \
               : ::postrider::assertion_failed(#condition, __FILE__, __LINE__))
