// What stands in the queue's database counts as hostile: decoding never fails hard, and what
// decodes is the same after another round.
#include "base/assert.h"
#include "queue/row_codec.h"

#include <cstdint>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (auto message = queue::decode_head({1}, bytes)) {
    const auto again = queue::decode_head({1}, queue::encode_head(*message));
    POSTRIDER_ASSERT(again.has_value());
    POSTRIDER_ASSERT(again->envelope == message->envelope);
    POSTRIDER_ASSERT(again->content.trace == message->content.trace);
    POSTRIDER_ASSERT(message->content.file.empty() || queue::is_body_name(message->content.file));
  }
  if (auto outcome = queue::decode_outcome(bytes)) {
    const auto again = queue::decode_outcome(queue::encode_outcome(*outcome));
    POSTRIDER_ASSERT(again.has_value());
    POSTRIDER_ASSERT(again->reply == outcome->reply && again->text == outcome->text);
  }
  return 0;
}
