// What TLS is demanded of the hosts of a site: TLSA records, MTA-STS policies, and what follows
// from their absence or their failure.
#include "base/assert.h"
#include "delivery/core.h"
#include "delivery/job/job_outcome.h"
#include "delivery/tls/tlsa.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;
using Core = Dispatcher::Core;

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

TlsSources Core::sources_of(const Route* route, const std::string& next_hop, bool by_mx,
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

Task<StsFinding> Core::find_sts(std::string domain) {
  auto found = co_await hooks_.sts(std::move(domain));
  co_return found;
}

Task<TlsaLookup> Core::find_tlsa(const FoundHost& host, const TlsSources& sources,
                                 std::uint16_t port) {
  if (const auto* why = why_no_dane(host, sources); why != nullptr) {
    TlsaLookup lookup;
    lookup.reason = why;
    co_return lookup;
  }
  auto lookup = co_await look_up_tlsa(resolver_of_(home()), tlsa_host(host), port);
  co_return lookup;
}

Task<void> Core::demand_tls(std::vector<FoundHost>& hosts, const TlsSources& sources,
                            std::uint16_t port) {
  const bool has_tls = settings_->smtp.tls_lenient && settings_->smtp.tls_strict;
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

// Hosts that must not even be connected to; the outcome of the last one, if there was any.
std::optional<Outcome> Core::drop_refused(Site& site, std::vector<FoundHost>& hosts) {
  std::optional<Outcome> outcome;
  const auto domain = domain_of_front(site);
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
    report_failure(site.tls, domain, &host, trouble.result, trouble.text);
  }
  std::erase_if(hosts, [](const auto& host) { return host.tls && host.tls->is_refused(); });
  return outcome;
}

void Core::report_failure(const TlsSources& sources, const std::string& domain,
                          const FoundHost* host, TlsResult result, const std::string& detail) {
  if (!hooks_.observer)
    return;
  TlsReport report;
  report.when = clock_.now();
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

// The recipient domain of the work that is next: a site may serve many.
std::string Core::domain_of_front(const Site& site) const {
  if (site.ready.empty())
    return {};
  const auto& job = site.ready.front();
  return mail::domain_of(job.message->envelope.recipients[job.recipients.front()].address);
}

// To a blocked site, untried. Where the queue does not know the site of this mail, it would give it
// out again at once: then the mail waits by its own schedule.
// Once for a message: later probes of the site are not its own.
void Core::log_parked(const Site& site, const Job& job) const {
  if (is_draining_ || site.is_aside ||
      in_hand_.at(job.lease)->lease.reason != queue::Lease::Reason::fresh)
    return;
  for (const auto index : job.recipients)
    maillog::deferred(log_, *job.message, job.message->envelope.recipients[index],
                      site.health.why());
}

void Core::give_back(Site& site, const Job& job) {
  if (site.is_aside && !is_draining_ && site.health.blocked_until() != TimePoint{})
    settle_all(job, site.health.why());
  else
    put_back(job);
  close_if_done(job.lease);
}

void Core::on_login_trouble(Site& site, const CourierEvent& event) {
  const std::string user = site.secrets ? site.secrets->user() : "";
  if (event.login == LoginTrouble::refused) {
    site.alarm = "the credentials of " + user + " are refused: put them right, then reload";
    maillog::credentials_refused(log_, site.name, user, event.failure, event.login_detail);
  } else {
    site.alarm = user + ": " + event.failure.text;
    maillog::no_token(log_, site.name, user, event.failure);
  }
  on_failure(site, event.failure);
}

}  // namespace postrider::delivery
