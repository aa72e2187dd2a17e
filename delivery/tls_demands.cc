#include "delivery/tls_demands.h"

#include "delivery/job/job_outcome.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;

namespace {

// RFC 7672 §2.2.1: only where the host's name is authenticated.
const char* why_no_dane(const FoundHost& host, const TlsSources& sources) {
  const bool is_wanted =
      sources.route == TlsMode::dane ||
      (sources.route == TlsMode::opportunistic && sources.message != mail::TlsWish::optional);
  if (!is_wanted)
    return "not asked for";
  if (host.host.is_address)
    return "an address has no TLSA records";
  if (sources.by_mx && !sources.mx_secure)
    return "the MX records are not authenticated";
  if (host.addresses.empty())
    return "it has no address";
  return nullptr;
}

TlsaHost tlsa_host(const FoundHost& host) {
  return {host.host.name, host.canonical, host.secure};
}

// In a program without TLS, what must have it waits.
std::shared_ptr<const TlsDemand> without_tls(const TlsSources& sources) {
  const bool is_needed = sources.route >= TlsMode::require || sources.implicit ||
                         sources.message == mail::TlsWish::required;
  if (!is_needed)
    return nullptr;
  auto demand = std::make_shared<TlsDemand>();
  demand->mode = TlsMode::require;
  demand->trouble = TlsTrouble{TlsResult::validation_failure, "TLS is not set up here"};
  return demand;
}

}  // namespace

TlsSources TlsDemands::sources_of(const Route* route, const std::string& next_hop, bool by_mx,
                                  mail::TlsWish wish) {
  TlsSources sources;
  if (route != nullptr) {
    sources.route = route->tls;
    sources.names = route->tls_names;
    sources.unverified_login = route->unverified_login;
  }
  sources.by_mx = by_mx;
  sources.next_hop = next_hop;
  sources.message = wish;
  return sources;
}

Task<std::string> TlsDemands::find_policy(TlsSources& sources, std::string domain,
                                          bool is_reported) {
  if (!hooks_.sts || sources.route != TlsMode::opportunistic)
    co_return std::string();
  auto found = co_await hooks_.sts(domain);
  sources.sts = std::move(found.policy);
  if (is_reported && found.trouble != TlsResult::success)
    report_failure(sources, domain, nullptr, found.trouble, found.detail);
  co_return std::move(found.detail);
}

Task<TlsaLookup> TlsDemands::find_tlsa(const FoundHost& host, const TlsSources& sources,
                                       std::uint16_t port) {
  if (const auto* why = why_no_dane(host, sources); why != nullptr) {
    TlsaLookup lookup;
    lookup.reason = why;
    co_return lookup;
  }
  auto lookup = co_await look_up_tlsa(resolver_of_(context_.home), tlsa_host(host), port);
  co_return lookup;
}

Task<void> TlsDemands::demand(std::vector<FoundHost>& hosts, TlsSources sources,
                              std::uint16_t port) {
  const bool has_tls = context_.settings->smtp.tls_lenient && context_.settings->smtp.tls_strict;
  for (auto& host : hosts) {
    if (!has_tls) {
      host.tls = without_tls(sources);
      continue;
    }
    const auto tlsa = co_await find_tlsa(host, sources, port);
    const auto name = host.host.is_address ? std::string() : host.host.name;
    host.tls = std::make_shared<const TlsDemand>(demand_of(sources, name, tlsa));
  }
}

std::optional<Outcome> TlsDemands::drop_refused(const TlsSources& sources,
                                                const std::string& domain,
                                                std::vector<FoundHost>& hosts) {
  std::optional<Outcome> outcome;
  for (const auto& host : hosts) {
    if (!host.tls || !host.tls->is_refused())
      continue;
    const auto& trouble = *host.tls->trouble;
    outcome = decide(Verdict::retry, Stage::starttls, {4, 7, 5},
                     host.host.name + " must not be used: " + trouble.text);
    // RFC 8689 §4.2.1: what a message demands and its domain does not have ends the attempt for
    // good.
    if (host.tls->source == TlsSource::message)
      outcome = decide(Verdict::bounce, Stage::starttls, {5, 7, 10}, trouble.text);
    report_failure(sources, domain, &host, trouble.result, trouble.text);
  }
  std::erase_if(hosts, [](const auto& host) { return host.tls && host.tls->is_refused(); });
  return outcome;
}

void TlsDemands::report_failure(const TlsSources& sources, const std::string& domain,
                                const FoundHost* host, TlsResult result,
                                const std::string& detail) {
  if (!hooks_.observer)
    return;
  TlsReport report;
  report.when = context_.clock.now();
  report.domain = domain;
  report.source = host != nullptr ? host->tls->source : TlsSource::mta_sts;
  report.sts = report.source == TlsSource::mta_sts ? sources.sts : nullptr;
  if (host != nullptr) {
    report.host = host->host.name;
    report.tlsa = host->tls->tlsa;
  }
  report.result = result;
  report.detail = detail;
  hooks_.observer(std::move(report));
}

}  // namespace postrider::delivery
