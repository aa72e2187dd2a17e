// What the decoder accepts is exactly what the encoder writes.
#include "base/assert.h"
#include "mail/envelope.h"

#include <cstdint>

using namespace postrider::mail;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto envelope = decode_envelope(bytes);
  if (envelope)
    POSTRIDER_ASSERT(encode(*envelope) == bytes);
  return 0;
}
