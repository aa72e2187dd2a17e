// Events are read back from a file: decoding never fails hard, and what was decoded is the same
// after another round.
#include "events/event_schema.h"

#include "base/assert.h"
#include "base/text.h"

#include <cstdint>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (auto event = events::decode(bytes)) {
    const auto text = events::encode(*event);
    POSTRIDER_ASSERT(is_utf8(text) && text.find('\n') == std::string::npos);
    const auto again = events::decode(text);
    POSTRIDER_ASSERT(again.has_value() && again->kind == event->kind && again->time == event->time);
  }
  return 0;
}
