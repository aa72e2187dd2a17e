// What stands in the queue's database counts as hostile: decoding never fails hard, and what
// decodes is the same after another round.
#include "base/assert.h"
#include "queue/fact.h"
#include "queue/row_codec.h"

#include <cstdint>
#include <string>

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
  if (auto fact = queue::decode_fact(bytes)) {
    auto line = queue::encode_line(LogEvent(Level::info, "x", fact->id));
    for (const auto& [key, value] : fact->fields)
      queue::append_field(line, key, value);
    const auto again = queue::decode_fact(queue::encode_fact(fact->when, line));
    POSTRIDER_ASSERT(again.has_value());
    POSTRIDER_ASSERT(again->fields == fact->fields && again->id == fact->id);
    POSTRIDER_ASSERT(again->when == fact->when);
  }
  return 0;
}
