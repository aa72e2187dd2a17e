#include "daemon/outbound.h"

#include "base/tls_context.h"
#include "delivery/secret_keeper.h"

#include <algorithm>
#include <thread>

namespace postrider::daemon {

Outbound::Outbound(const Clock& clock)
    : clock_(clock), handshakes_(std::max(1U, std::thread::hardware_concurrency())) {}

Result<void> Outbound::equip(const Config& config, delivery::Settings& settings) {
  TlsClientSettings tls;
  tls.roots = config.delivery.tls_ca;
  // A chain to verify takes about a millisecond, in which a loop would serve nobody.
  tls.workers = &handshakes_;
  auto strict = TlsContext::client(tls);
  if (!strict)
    return strict.error().during("delivery.tls_ca");
  tls.lenient = true;
  tls.lowest = TlsVersion::tls1_0;
  auto lenient = TlsContext::client(tls);
  if (!lenient)
    return lenient.error().during("delivery.tls_ca");
  settings.tls_strict = *std::move(strict);
  settings.tls_lenient = *std::move(lenient);
  for (auto& route : settings.routes) {
    if (route.credentials.empty())
      continue;
    auto file = delivery::load_credentials(route.credentials);
    if (!file)
      return file.error().during("route.credentials");
    // The sandbox runs no commands, and nothing asks a token endpoint yet: better no start than
    // mail that waits for neither.
    if (file->is_token())
      return Error(Errc::unsupported, "access tokens cannot be fetched; give a password")
          .during(route.credentials);
    route.secrets = std::make_shared<delivery::SecretKeeper>(*std::move(file), clock_, pool_,
                                                             delivery::FetchToken());
  }
  return {};
}

}  // namespace postrider::daemon
