// Certificates: at the start, at a reload, and when their files change.
#include "base/text.h"
#include "daemon/certificates.h"
#include "daemon/running.h"

#include <algorithm>

namespace postrider::daemon {

namespace {

constexpr auto kLookEvery = std::chrono::seconds(10);

TlsVersion version(TlsProtocol protocol) {
  return static_cast<TlsVersion>(protocol);  // the same values in the same order
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names)
    out.append(out.empty() ? "" : " ").append(name);
  return out;
}

}  // namespace

void Running::log_certificates() {
  for (const auto& identity : tls_offer_.identities)
    log_->write(LogEvent(Level::info, "certificate")
                    .add("names", joined(identity->names()))
                    .add("key", identity->key_type())
                    .add("expires", format_rfc3339(identity->not_after()))
                    .add("sha256", identity->fingerprint()));
}

void Running::read_certificates(StartProblems& problems) {
  const auto& config = *loaded_.config;
  tls_stamp_ = certificate_stamp(config.tls);
  auto found = load_certificates(config, loaded_.origins, clock_.now());
  for (const auto& problem : found.problems)
    blame(problems, problem.key.c_str(), problem.text);
  tls_offer_.identities = std::move(found.identities);
  tls_offer_.lowest = version(config.tls.protocol);
  tls_offer_.asks_for_certificate =
      !config.accept.relay_certificates.empty() || !config.auth.certificates.empty();
  tls_offer_.workers = &*tls_workers_;
  log_certificates();
}

// New files that are of no use leave the old certificates in place, and the log says why.
Error Running::change_certificates(const Config& config, const Origins& origins) {
  auto offer = tls_offer_;
  offer.lowest = version(config.tls.protocol);
  offer.asks_for_certificate =
      !config.accept.relay_certificates.empty() || !config.auth.certificates.empty();
  tls_stamp_ = certificate_stamp(config.tls);
  auto found = load_certificates(config, origins, clock_.now());
  for (const auto& problem : found.problems)
    log_->write(LogEvent(Level::error, "certificate_refused")
                    .add("key", problem.key)
                    .add("problem", problem.text)
                    .add("kept", offer.identities.empty() ? "none" : "the old ones"));
  // There are no old ones that listeners could go on with.
  if (!found.problems.empty() && offer.identities.empty())
    return {Errc::refused, found.problems.front().key + ": " + found.problems.front().text};
  const auto same = [](const auto& a, const auto& b) {
    return a->fingerprint() == b->fingerprint();
  };
  const bool is_new = !std::equal(found.identities.begin(), found.identities.end(),
                                  offer.identities.begin(), offer.identities.end(), same);
  if (found.problems.empty())
    offer.identities = std::move(found.identities);
  if (auto offered = server_->offer_tls(offer); !offered)
    return offered.error();
  tls_offer_ = std::move(offer);
  if (is_new && found.problems.empty())
    log_certificates();
  return {};
}

void Running::look_at_certificates() {
  const auto now = clock_.steady();
  const auto& config = *loaded_.config;
  if (config.tls.certificate.empty() || now < next_tls_look_)
    return;
  next_tls_look_ = now + kLookEvery;
  const auto stamp = certificate_stamp_in_time(config.tls);
  if (!stamp || *stamp == tls_stamp_)
    return;
  if (const auto error = change_certificates(config, loaded_.origins); error.code())
    log_->write(LogEvent(Level::error, "certificate_refused").add("problem", error.describe()));
}

}  // namespace postrider::daemon
