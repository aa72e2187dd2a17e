// What a broker sends: reading ends, pieces make no difference, a body that is cut takes nothing
// with it, and what was read is the same after it is written.
#include "brokers/stomp_frame.h"

#include "base/assert.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::brokers;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr std::size_t kShort = 16;
  StompReader whole, pieces, cut({kShort, true});
  whole.feed(bytes);
  cut.feed(bytes);
  const auto half = size == 0 ? 0 : data[0] % size;
  pieces.feed(bytes.substr(0, half));
  bool is_half = true;
  for (;;) {
    const auto frame = whole.next();
    auto other = pieces.next();
    if (is_half && other && !*other) {
      pieces.feed(bytes.substr(half));
      is_half = false;
      other = pieces.next();
    }
    POSTRIDER_ASSERT(frame.has_value() == other.has_value() || is_half);
    if (!frame || !*frame)
      return 0;
    POSTRIDER_ASSERT(*other && (**frame).headers == (**other).headers);
    POSTRIDER_ASSERT((**frame).body == (**other).body);
    const auto shorter = cut.next();
    const bool is_long = (**frame).body.size() > kShort;
    POSTRIDER_ASSERT(shorter && *shorter && (**shorter).headers == (**frame).headers);
    POSTRIDER_ASSERT((**shorter).is_cut == is_long);
    POSTRIDER_ASSERT((**shorter).body == (is_long ? std::string() : (**frame).body));
    auto plain = **frame;
    std::erase_if(plain.headers, [](const auto& one) { return one.first == "content-length"; });
    if (plain.command == "CONNECTED" || plain.command == "CONNECT" || plain.command == "STOMP")
      continue;  // what they cannot say is left out
    StompReader back;
    back.feed(encode(plain));
    const auto again = back.next();
    if (!again)
      continue;  // escapes make it longer than what is allowed
    POSTRIDER_ASSERT(*again && (**again).command == plain.command);
    POSTRIDER_ASSERT((**again).body == plain.body);
  }
}
