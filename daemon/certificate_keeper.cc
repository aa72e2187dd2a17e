#include "daemon/certificate_keeper.h"

#include "base/text.h"

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

bool asks_for_certificate(const Config& config) {
  return !config.accept.relay_certificates.empty() || !config.auth.certificates.empty();
}

}  // namespace

CertificateKeeper::CertificateKeeper(const Clock& clock, Log& log, BlockingPool& workers)
    : clock_(clock), log_(log) {
  offer_.workers = &workers;
}

void CertificateKeeper::log_all() {
  for (const auto& identity : offer_.identities)
    log_.write(LogEvent(Level::info, "certificate")
                   .add("names", joined(identity->names()))
                   .add("key", identity->key_type())
                   .add("expires", format_rfc3339(identity->not_after()))
                   .add("sha256", identity->fingerprint()));
}

// Once for each that has expired, or is not valid yet; `postrider status` has it as long as it is.
void CertificateKeeper::log_out_of_time() {
  std::string now_known;
  for (const auto& identity : offer_.identities) {
    const auto text = out_of_time(*identity, clock_.now());
    if (text.empty())
      continue;
    now_known.append(identity->fingerprint()).append(" ");
    if (out_of_time_.find(identity->fingerprint()) == out_of_time_.npos)
      log_.write(LogEvent(Level::warn, "certificate_out_of_time")
                     .add("names", joined(identity->names()))
                     .add("problem", text));
  }
  out_of_time_ = std::move(now_known);
}

void CertificateKeeper::read(const Loaded& loaded, StartProblems& problems) {
  const auto& config = *loaded.config;
  stamp_ = certificate_stamp(config.tls);
  auto found = load_certificates(config, loaded.origins, clock_.now());
  for (const auto& problem : found.problems)
    problems.blame(loaded, problem.key.c_str(), problem.text);
  offer_.identities = std::move(found.identities);
  offer_.lowest = version(config.tls.protocol);
  offer_.asks_for_certificate = asks_for_certificate(config);
  log_all();
  log_out_of_time();
}

Error CertificateKeeper::change(const Config& config, const Origins& origins) {
  auto offer = offer_;
  offer.lowest = version(config.tls.protocol);
  offer.asks_for_certificate = asks_for_certificate(config);
  stamp_ = certificate_stamp(config.tls);
  auto found = load_certificates(config, origins, clock_.now());
  // Valid ones are not given up for them.
  const bool are_valid = std::all_of(
      offer.identities.begin(), offer.identities.end(),
      [&](const auto& identity) { return out_of_time(*identity, clock_.now()).empty(); });
  if (!offer.identities.empty() && are_valid)
    found.problems.insert(found.problems.end(), found.warnings.begin(), found.warnings.end());
  for (const auto& problem : found.problems)
    log_.write(LogEvent(Level::error, "certificate_refused")
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
  if (auto used = use_(offer); !used)
    return used.error();
  offer_ = std::move(offer);
  if (is_new && found.problems.empty())
    log_all();
  log_out_of_time();
  return {};
}

void CertificateKeeper::look(const Loaded& loaded) {
  const auto now = clock_.steady();
  const auto& config = *loaded.config;
  if (config.tls.certificate.empty() || now < next_look_)
    return;
  next_look_ = now + kLookEvery;
  log_out_of_time();
  const auto stamp = certificate_stamp_in_time(config.tls);
  if (!stamp || *stamp == stamp_)
    return;
  if (const auto error = change(config, loaded.origins); error.code())
    log_.write(LogEvent(Level::error, "certificate_refused").add("problem", error.describe()));
}

}  // namespace postrider::daemon
