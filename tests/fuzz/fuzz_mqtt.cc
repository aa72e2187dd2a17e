// What a broker sends: reading ends, pieces make no difference, and of a message nothing is kept
// beyond what is allowed.
#include "brokers/mqtt_packet.h"

#include "base/assert.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::brokers;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kShort = 16;
  if (size == 0)
    return 0;
  const auto version = (data[0] & 1U) != 0 ? MqttVersion::v5 : MqttVersion::v3_1_1;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  MqttReader whole(version, kShort), pieces(version, kShort);
  whole.feed(bytes);
  std::size_t fed = 0;
  for (;;) {
    const auto packet = whole.next();
    auto other = pieces.next();
    while (other && !*other && fed < bytes.size()) {
      pieces.feed(bytes.substr(fed++, 1));
      other = pieces.next();
    }
    POSTRIDER_ASSERT(packet.has_value() == other.has_value());
    if (!packet)
      return 0;
    POSTRIDER_ASSERT(packet->has_value() == other->has_value());
    if (!*packet)
      return 0;
    POSTRIDER_ASSERT((**packet).type == (**other).type && (**packet).body == (**other).body);
    POSTRIDER_ASSERT((**packet).key == (**other).key && (**packet).is_cut == (**other).is_cut);
    POSTRIDER_ASSERT((**packet).body.size() <= kShort);
    POSTRIDER_ASSERT((**packet).key.size() <= MqttReader::kMostKept);
    (void)mqtt_reason(version, **packet);
  }
}
