// What TLS is demanded of the hosts of a site: TLSA records, MTA-STS policies, and what follows
// from their absence or their failure.
#pragma once

#include "delivery/dispatch_context.h"
#include "delivery/dispatcher.h"
#include "delivery/routing/hosts.h"
#include "delivery/tls/tlsa.h"

#include <optional>
#include <string>
#include <vector>

namespace postrider::delivery {

class TlsDemands {
 public:
  TlsDemands(DispatchContext& context, ResolverOf resolver_of)
      : context_(context), resolver_of_(std::move(resolver_of)) {}

  void use(TlsHooks hooks) { hooks_ = std::move(hooks); }
  const TlsObserver& observer() const { return hooks_.observer; }

  static TlsSources sources_of(const Route* route, const std::string& next_hop, bool by_mx,
                               mail::TlsWish wish);
  // The policy of a domain, where the route leaves room for one. Gives what was wrong with it,
  // which is_reported to the domain.
  Task<std::string> find_policy(TlsSources& sources, std::string domain, bool is_reported);
  // Sets what is demanded of each host.
  Task<void> demand(std::vector<FoundHost>& hosts, TlsSources sources, std::uint16_t port);
  // Drops hosts that must not even be connected to; the outcome of the last one, if there was any.
  std::optional<mail::Outcome> drop_refused(const TlsSources& sources, const std::string& domain,
                                            std::vector<FoundHost>& hosts);

 private:
  Task<TlsaLookup> find_tlsa(const FoundHost& host, const TlsSources& sources, std::uint16_t port);
  void report_failure(const TlsSources& sources, const std::string& domain, const FoundHost* host,
                      TlsResult result, const std::string& detail);

  DispatchContext& context_;
  ResolverOf resolver_of_;
  TlsHooks hooks_;
};

}  // namespace postrider::delivery
