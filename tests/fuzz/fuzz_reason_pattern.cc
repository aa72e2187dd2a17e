// The pattern of a reason is short, and holds no digit that was not a code's.
#include "base/assert.h"
#include "queue/summary.h"

#include <cstdint>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto pattern = queue::reason_pattern(text);
  POSTRIDER_ASSERT(pattern.size() <= 300 && pattern.find('@') == std::string::npos);
  POSTRIDER_ASSERT(queue::reason_pattern(text) == pattern);
  queue::Summary summary(queue::SummaryKey::reason, TimePoint{});
  queue::Summary::Item item;
  item.reason = pattern;
  summary.add(item);
  POSTRIDER_ASSERT(summary.groups() == 1);
  return 0;
}
