// What another program answers: a netstring is found in the same octets however they come, and its
// meaning is a value, none or an error.
#include "base/assert.h"
#include "tables/netstring.h"

#include <cstdint>
#include <string>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto found = tables::parse_netstring(bytes);
  if (!found || !*found) {
    (void)tables::parse_socketmap_answer(bytes);
    return 0;
  }
  const auto& text = **found;
  POSTRIDER_ASSERT(text.size() <= tables::kMostNetstring);
  POSTRIDER_ASSERT(bytes.starts_with(tables::netstring(text)));
  (void)tables::parse_socketmap_answer(text);
  return 0;
}
