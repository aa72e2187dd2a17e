// Any bytes as resolv.conf and as a server: no crash, bounds kept.
#include "base/assert.h"
#include "dns/resolv_conf.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postrider::dns;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto conf = parse_resolv_conf(text);
  POSTRIDER_ASSERT(!conf.servers.empty() && conf.servers.size() <= ResolvConf::kMostServers);
  const auto server = parse_server(text);
  if (server)
    POSTRIDER_ASSERT(parse_server(to_string(*server)).value() == *server);
  return 0;
}
