// The PROXY header from arbitrary bytes: no crash; a verdict never depends on what follows the
// header, and a shorter start never claims more than the whole.
#include "base/assert.h"
#include "smtpd/proxy_protocol.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::size_t used = 0;
  const auto whole = postrider::smtpd::parse_proxy_header(bytes, used);
  if (!whole) {
    return 0;
  }
  POSTRIDER_ASSERT(*whole || size < postrider::smtpd::kMostProxyHeader);
  if (!*whole)
    return 0;
  POSTRIDER_ASSERT(used <= size && used <= postrider::smtpd::kMostProxyHeader);
  std::size_t again = 0;
  const auto exact = postrider::smtpd::parse_proxy_header(bytes.substr(0, used), again);
  POSTRIDER_ASSERT(exact && *exact && again == used);
  POSTRIDER_ASSERT((*exact)->source == (*whole)->source);
  return 0;
}
