// Where a sink stands, and the secrets of webhooks, are read from files of others: what is taken is
// well formed, and nothing fails hard.
#include "events/outbox.h"
#include "events/webhook.h"

#include "base/assert.h"

#include <cstdint>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto position = events::parse_position(bytes)) {
    const auto text = position->outbox + " " + std::to_string(position->sequence) + "\n";
    const auto again = events::parse_position(text);
    POSTRIDER_ASSERT(again.has_value() && *again == *position);
  }
  if (const auto key = events::parse_webhook_secret(bytes))
    POSTRIDER_ASSERT(key->size() >= 24 && key->size() <= 64);
  return 0;
}
