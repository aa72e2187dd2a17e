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

// Once for each that has expired, or is not valid yet; `postrider status` has it as long as it is.
void Running::log_out_of_time() {
  std::string now_known;
  for (const auto& identity : tls_offer_.identities) {
    const auto text = out_of_time(*identity, clock_.now());
    if (text.empty())
      continue;
    now_known.append(identity->fingerprint()).append(" ");
    if (out_of_time_.find(identity->fingerprint()) == out_of_time_.npos)
      log_->write(LogEvent(Level::warn, "certificate_out_of_time")
                      .add("names", joined(identity->names()))
                      .add("problem", text));
  }
  out_of_time_ = std::move(now_known);
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
  log_out_of_time();
}

// New files that are of no use leave the old certificates in place, and the log says why.
Error Running::change_certificates(const Config& config, const Origins& origins) {
  auto offer = tls_offer_;
  offer.lowest = version(config.tls.protocol);
  offer.asks_for_certificate =
      !config.accept.relay_certificates.empty() || !config.auth.certificates.empty();
  tls_stamp_ = certificate_stamp(config.tls);
  auto found = load_certificates(config, origins, clock_.now());
  // Valid ones are not given up for them.
  const bool are_valid = std::all_of(
      offer.identities.begin(), offer.identities.end(),
      [&](const auto& identity) { return out_of_time(*identity, clock_.now()).empty(); });
  if (!offer.identities.empty() && are_valid)
    found.problems.insert(found.problems.end(), found.warnings.begin(), found.warnings.end());
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
  insight_->set_certificates(tls_offer_.identities);
  if (is_new && found.problems.empty())
    log_certificates();
  log_out_of_time();
  return {};
}

void Running::look_at_certificates() {
  const auto now = clock_.steady();
  const auto& config = *loaded_.config;
  if (config.tls.certificate.empty() || now < next_tls_look_)
    return;
  next_tls_look_ = now + kLookEvery;
  log_out_of_time();
  const auto stamp = certificate_stamp_in_time(config.tls);
  if (!stamp || *stamp == tls_stamp_)
    return;
  if (const auto error = change_certificates(config, loaded_.origins); error.code())
    log_->write(LogEvent(Level::error, "certificate_refused").add("problem", error.describe()));
}

}  // namespace postrider::daemon
