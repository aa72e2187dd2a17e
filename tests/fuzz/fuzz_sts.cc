// Any bytes as announcement, policy file and stored policy: no crash, limits kept, and what was
// read is written and read the same.
#include "base/assert.h"
#include "delivery/tls/sts/policy_cache.h"
#include "delivery/tls/sts/tags.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postrider;
  using namespace postrider::delivery;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto id = parse_sts_record({text}))
    POSTRIDER_ASSERT(!id->empty() && id->size() <= 32);
  if (auto file = parse_sts_policy(text)) {
    POSTRIDER_ASSERT(file->max_age.count() >= 0 && file->max_age.count() <= 31'557'600);
    StsCache cache;
    const TimePoint now(std::chrono::hours(500'000));
    cache.store("a.b", "1", *std::move(file), text, now);
    if (const auto* entry = cache.find("a.b", now))
      POSTRIDER_ASSERT(encode(decode_sts_entry("a.b", encode(*entry)).value()) == encode(*entry));
  }
  if (const auto entry = decode_sts_entry("a.b", text))
    POSTRIDER_ASSERT(entry->text.size() <= kMostStsPolicy);
  return 0;
}
