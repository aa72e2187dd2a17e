#include "delivery/tls/tls_policy.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

std::string in_hex(const std::vector<std::uint8_t>& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const auto byte : bytes) {
    text.push_back(kDigits[byte >> 4U]);
    text.push_back(kDigits[byte & 15U]);
  }
  return text;
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const auto& part : parts)
    text.append(text.empty() ? "" : between).append(part);
  return text;
}

TlsTrouble not_in_policy(const StsPolicy& policy, const std::string& host) {
  return {TlsResult::validation_failure, (host.empty() ? std::string("an address") : host) +
                                             " is not among the hosts of the " +
                                             "MTA-STS policy of " + policy.domain};
}

bool is_published(TlsMode route) {
  return route == TlsMode::opportunistic;
}

void ask_for_names(TlsDemand& demand, std::vector<std::string> names) {
  demand.mode = TlsMode::verify;
  demand.names = std::move(names);
}

// The records of a host: authenticated, or TLS without authentication if none can be used.
void ask_for_dane(TlsDemand& demand, const TlsSources& sources, const TlsaLookup& tlsa) {
  demand.source = TlsSource::dane;
  demand.server_name = tlsa.base;
  std::copy_if(tlsa.records.begin(), tlsa.records.end(), std::back_inserter(demand.tlsa),
               is_usable);
  if (demand.tlsa.empty()) {
    demand.mode = TlsMode::require;
    demand.dane_unusable = true;
    return;
  }
  demand.mode = TlsMode::dane;
  demand.names.push_back(tlsa.base);  // RFC 7672 §3.2.2: for DANE-TA
  if (sources.by_mx && sources.next_hop != tlsa.base)
    demand.names.push_back(sources.next_hop);
}

// By MX, a name of an unauthenticated answer proves nothing; the domain's own name does.
std::vector<std::string> names_to_verify(const TlsSources& sources, const std::string& host) {
  if (!sources.names.empty())
    return sources.names;
  if (!sources.by_mx || sources.mx_secure)
    return {host};
  return {sources.next_hop, "." + sources.next_hop};
}

void by_route(TlsDemand& demand, const TlsSources& sources, const std::string& host,
              const TlsaLookup& tlsa) {
  demand.source = TlsSource::route;
  demand.mode = sources.route;
  if (sources.route == TlsMode::verify) {
    demand.names = names_to_verify(sources, host);
    if (demand.names.front().empty())
      demand.trouble = TlsTrouble{TlsResult::certificate_host_mismatch,
                                  "the host is an address, which has no name to verify"};
  }
  if (sources.route != TlsMode::dane)
    return;
  if (tlsa.status == TlsaLookup::Status::failed) {
    demand.trouble = TlsTrouble{TlsResult::dnssec_invalid, tlsa.reason};
    return;
  }
  if (tlsa.status == TlsaLookup::Status::records)
    ask_for_dane(demand, sources, tlsa);
  demand.mode = TlsMode::dane;
  if (demand.dane_unusable)
    demand.trouble = TlsTrouble{TlsResult::tlsa_invalid,
                                "none of the TLSA records of " + tlsa.base + " can be used"};
  else if (demand.tlsa.empty())
    demand.trouble =
        TlsTrouble{TlsResult::dane_required, "the route demands DANE, and " + host +
                                                 " has no secure TLSA records" +
                                                 (tlsa.reason.empty() ? "" : ": " + tlsa.reason)};
}

void by_sts(TlsDemand& demand, const StsPolicy& policy, const std::string& host) {
  if (policy.mode == StsPolicy::Mode::none)
    return;
  demand.source = TlsSource::mta_sts;
  demand.names = {host};
  demand.trial = policy.mode == StsPolicy::Mode::testing;
  if (!demand.trial)
    demand.mode = TlsMode::verify;
  if (!allows(policy, host))
    demand.trouble = not_in_policy(policy, host);
}

// RFC 8689 §4.2.1: the name of the host must be known for sure, and proven by its certificate.
void by_requiretls(TlsDemand& demand, const TlsSources& sources, const std::string& host) {
  demand.trial = false;
  if (demand.mode == TlsMode::dane)
    return;
  const bool by_policy = demand.source == TlsSource::mta_sts;
  if (!by_policy && demand.source != TlsSource::route)
    demand.source = TlsSource::message;
  if (!demand.needs_name())
    ask_for_names(demand, {host});
  if (host.empty())
    demand.trouble = TlsTrouble{TlsResult::certificate_host_mismatch,
                                "the message requires TLS with a verified host, and an address "
                                "has no name to verify"};
  else if (!by_policy && sources.by_mx && !sources.mx_secure)
    demand.trouble = TlsTrouble{TlsResult::validation_failure,
                                "the message requires TLS with a verified host, and neither DNSSEC "
                                "nor MTA-STS tells the hosts of " +
                                    sources.next_hop};
}

// Which hosts a policy lets through is part of what is demanded.
std::string sts_tag(const StsPolicy& policy, const std::vector<std::string>& hosts) {
  std::vector<std::string> allowed;
  for (const auto& host : hosts)
    if (allows(policy, host))
      allowed.push_back(host);
  std::string tag = std::string(" (mta-sts ") + to_string(policy.mode);
  if (allowed.size() != hosts.size())
    tag += ": " + (allowed.empty() ? "no host" : joined(allowed, ", "));
  return tag + ")";
}

std::string route_tag(const TlsSources& sources) {
  std::string tag = std::string(" (tls ") + to_string(sources.route);
  const bool names_domain = sources.route == TlsMode::verify && sources.by_mx && !sources.mx_secure;
  if (sources.route == TlsMode::verify && !sources.names.empty())
    tag += " " + joined(sources.names, ", ");
  else if (names_domain)
    tag += " " + sources.next_hop;
  return tag + ")";
}

}  // namespace

const char* to_string(StsPolicy::Mode mode) {
  switch (mode) {
    case StsPolicy::Mode::none:
      return "none";
    case StsPolicy::Mode::testing:
      return "testing";
    case StsPolicy::Mode::enforce:
      return "enforce";
  }
  return "none";
}

const char* to_string(TlsMode mode) {
  switch (mode) {
    case TlsMode::off:
      return "off";
    case TlsMode::opportunistic:
      return "opportunistic";
    case TlsMode::require:
      return "require";
    case TlsMode::verify:
      return "verify";
    case TlsMode::dane:
      return "dane";
  }
  return "off";
}

const char* to_string(TlsResult result) {
  switch (result) {
    case TlsResult::success:
      return "success";
    case TlsResult::starttls_not_supported:
      return "starttls-not-supported";
    case TlsResult::certificate_host_mismatch:
      return "certificate-host-mismatch";
    case TlsResult::certificate_expired:
      return "certificate-expired";
    case TlsResult::certificate_not_trusted:
      return "certificate-not-trusted";
    case TlsResult::validation_failure:
      return "validation-failure";
    case TlsResult::tlsa_invalid:
      return "tlsa-invalid";
    case TlsResult::dnssec_invalid:
      return "dnssec-invalid";
    case TlsResult::dane_required:
      return "dane-required";
    case TlsResult::sts_policy_fetch_error:
      return "sts-policy-fetch-error";
    case TlsResult::sts_policy_invalid:
      return "sts-policy-invalid";
    case TlsResult::sts_webpki_invalid:
      return "sts-webpki-invalid";
  }
  return "validation-failure";
}

std::string to_string(const TlsaRecord& record) {
  return std::to_string(record.usage) + " " + std::to_string(record.selector) + " " +
         std::to_string(record.matching) + " " + in_hex(record.data);
}

bool is_usable(const TlsaRecord& record) {
  if (record.usage != 2 && record.usage != 3)
    return false;
  if (record.selector > 1)
    return false;
  switch (record.matching) {
    case 0:
      return !record.data.empty();
    case 1:
      return record.data.size() == 32;
    case 2:
      return record.data.size() == 64;
    default:
      return false;
  }
}

bool matches_sts(std::string_view pattern, std::string_view host) {
  if (pattern.substr(0, 2) != "*.")
    return !host.empty() && pattern == host;
  const auto dot = host.find('.');
  return dot != host.npos && dot > 0 && pattern.substr(1) == host.substr(dot);
}

bool allows(const StsPolicy& policy, std::string_view host) {
  return std::any_of(policy.mx.begin(), policy.mx.end(),
                     [&](const auto& pattern) { return matches_sts(pattern, host); });
}

std::string site_tag(const TlsSources& sources, const std::vector<std::string>& hosts) {
  std::string tag;
  if (!is_published(sources.route))
    tag = route_tag(sources);
  if (sources.unverified_login)
    tag += " (unverified login)";
  const bool counts_published =
      is_published(sources.route) || sources.message == mail::TlsWish::required;
  if (sources.message == mail::TlsWish::optional)
    return tag.empty() ? " (tls-required no)" : tag;
  if (sources.by_mx && sources.mx_secure && (counts_published || sources.route == TlsMode::dane))
    tag += " (dnssec)";
  if (counts_published && sources.sts && sources.sts->mode != StsPolicy::Mode::none)
    tag += sts_tag(*sources.sts, hosts);
  if (sources.message == mail::TlsWish::required)
    tag += " (requiretls)";
  return tag;
}

TlsDemand demand_of(const TlsSources& sources, const std::string& host, const TlsaLookup& tlsa) {
  TlsDemand demand;
  demand.implicit = sources.implicit;
  demand.server_name = host;
  if (!is_published(sources.route)) {
    by_route(demand, sources, host, tlsa);
  } else if (sources.message == mail::TlsWish::optional) {
    demand.source = TlsSource::message;
  } else if (tlsa.status == TlsaLookup::Status::failed) {
    demand.mode = TlsMode::dane;
    demand.source = TlsSource::dane;
    demand.trouble = TlsTrouble{TlsResult::dnssec_invalid, tlsa.reason};
  } else {
    if (sources.sts)
      by_sts(demand, *sources.sts, host);
    if (tlsa.status == TlsaLookup::Status::records) {
      TlsDemand dane;
      dane.implicit = demand.implicit;
      ask_for_dane(dane, sources, tlsa);
      const bool sts_is_stronger = dane.dane_unusable && demand.needs_name();
      if (!sts_is_stronger)
        demand = std::move(dane);
    }
  }
  demand.unverified_login = sources.unverified_login;
  if (sources.message == mail::TlsWish::required)
    by_requiretls(demand, sources, host);
  if (sources.implicit && !demand.needs_tls())
    demand.mode = TlsMode::require;  // there is no clear form of smtps
  return demand;
}

std::string TlsDemand::describe() const {
  std::string text = to_string(mode);
  switch (source) {
    case TlsSource::standard:
      break;
    case TlsSource::route:
      text += " (by the route)";
      break;
    case TlsSource::dane:
      text += dane_unusable ? " (TLSA records are there, but none is usable)" : " (TLSA records)";
      break;
    case TlsSource::mta_sts:
      text += trial ? " (MTA-STS, testing)" : " (MTA-STS)";
      break;
    case TlsSource::message:
      text += " (the message asks for it)";
      break;
  }
  if (needs_name() && mode != TlsMode::dane && !names.empty())
    text += ": the certificate must name " + joined(names, " or ");
  if (trouble)
    text += "; " + trouble->text;
  return text;
}

std::string TlsDemand::session_key() const {
  std::string key = to_string(mode);
  key += trial ? "?" : "!";
  key += server_name;
  for (const auto& name : names)
    key += "|" + name;
  for (const auto& record : tlsa)
    key += "|" + to_string(record);
  return key;
}

}  // namespace postrider::delivery
