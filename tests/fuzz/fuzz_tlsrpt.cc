// Any bytes as a TLSRPT record, a URI and stored results: no crash, limits kept; what was read of
// stored results is written and read the same.
#include "base/assert.h"
#include "delivery/tls/reports/record.h"
#include "delivery/tls/reports/tally.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postrider::delivery;
  const std::string text(reinterpret_cast<const char*>(data), size);
  POSTRIDER_ASSERT(parse_tlsrpt_record({text}).size() <= 5);
  if (const auto target = parse_tlsrpt_uri(text)) {
    const auto name = target->describe();
    for (const char c : name)
      POSTRIDER_ASSERT(c > 0x1f && c < 0x7f);
  }
  if (const auto tally = TlsTally::decode(text)) {
    const auto again = tally->encode();
    POSTRIDER_ASSERT(TlsTally::decode(again).value().encode() == again);
  }
  return 0;
}
