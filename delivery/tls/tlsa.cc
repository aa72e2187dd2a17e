#include "delivery/tls/tlsa.h"

namespace postrider::delivery {

namespace {

TlsaLookup failed(const std::string& what, const std::string& name, const std::string& reason) {
  TlsaLookup lookup;
  lookup.status = TlsaLookup::Status::failed;
  lookup.base = name;
  lookup.reason = what + " of " + name + " cannot be looked up: " + reason;
  return lookup;
}

TlsaLookup none(std::string reason) {
  TlsaLookup lookup;
  lookup.reason = std::move(reason);
  return lookup;
}

bool is_alias(const TlsaHost& host) {
  return !host.canonical.empty() && host.canonical != host.name;
}

// The records at the first of the names that has some.
Task<TlsaLookup> look_up_at(dns::Resolver& resolver, std::vector<std::string> bases,
                            std::uint16_t port) {
  for (const auto& base : bases) {
    const auto answer = co_await resolver.tlsa("_" + std::to_string(port) + "._tcp." + base);
    if (answer.status == dns::Status::temporary_failure)
      co_return failed("the TLSA records", base, answer.reason);
    if (answer.status != dns::Status::records || !answer.secure)
      continue;
    TlsaLookup lookup;
    lookup.status = TlsaLookup::Status::records;
    lookup.base = base;
    for (const auto& record : answer.records)
      lookup.records.push_back({record.usage, record.selector, record.matching, record.data});
    co_return lookup;
  }
  co_return none("there are no authenticated TLSA records");
}

}  // namespace

Task<TlsaLookup> look_up_tlsa(dns::Resolver& resolver, TlsaHost host, std::uint16_t port) {
  const auto& name = host.name;
  std::vector<std::string> bases;
  if (!host.secure) {
    // A question for TLSA below a name that is not signed has no use, and some servers fail at it.
    if (!is_alias(host))
      co_return none("its address records are not authenticated");
    const auto alias = co_await resolver.cname(name);
    if (alias.status == dns::Status::temporary_failure)
      co_return failed("the alias", name, alias.reason);
    if (alias.status != dns::Status::records || !alias.secure)
      co_return none("neither its address records nor its alias are authenticated");
  } else if (is_alias(host)) {
    bases.push_back(host.canonical);
  }
  bases.push_back(name);
  auto lookup = co_await look_up_at(resolver, std::move(bases), port);
  co_return lookup;
}

}  // namespace postrider::delivery
