// A conversion gives 7 bits, and has nothing left to do the second time.
#include "base/assert.h"
#include "base/text.h"
#include "mail/convert.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::mail;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const bool binary : {false, true}) {
    const auto once = to_seven_bit(bytes, binary);
    if (!once)
      continue;
    POSTRIDER_ASSERT(is_ascii(*once) && once->size() < 4 * size + 1000);
    const auto twice = to_seven_bit(*once, binary);
    POSTRIDER_ASSERT(twice && *twice == *once);
  }
  return 0;
}
