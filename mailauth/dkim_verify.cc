#include "mailauth/dkim_verify.h"

#include "base/text.h"
#include "mailauth/dns_name.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace postrider::mailauth {

namespace {

SignatureReport policy_report(std::string reason) {
  SignatureReport report;
  report.result = SignatureResult::policy;
  report.reason = std::move(reason);
  return report;
}

SignatureReport left_unverified(const std::string& domain) {
  auto report = policy_report("too many signatures");
  report.domain = domain;
  report.is_left_out = true;
  return report;
}

// How much the signature of a domain matters: 0 the most.
int rank_of(const std::string& domain, const std::vector<std::string>& authors) {
  int rank = 2;
  for (const auto& author : authors) {
    if (equals_ignoring_case(domain, author))
      return 0;
    if (may_be_one_organization(domain, author))
      rank = 1;
  }
  return rank;
}

void settle(SignatureReport& report, SignatureResult result, std::string reason) {
  report.result = result;
  report.reason = std::move(reason);
}

std::uint64_t seconds_of(TimePoint when) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(when).time_since_epoch().count();
  return seconds < 0 ? 0 : static_cast<std::uint64_t>(seconds);
}

}  // namespace

SignatureReport report_of(const Signature& signature) {
  SignatureReport report;
  report.domain = signature.domain;
  report.selector = signature.selector;
  report.identity = signature.identity;
  report.algorithm = signature.algorithm;
  report.data_text = signature.data_text;
  report.signed_fields = signature.fields;
  return report;
}

void check_time_and_body(const Signature& signature, const BodyHashes& bodies, BodyHashes::Id body,
                         TimePoint now, SignatureReport& report) {
  if (signature.expires && *signature.expires < seconds_of(now))
    return settle(report, SignatureResult::fail, "signature expired");
  if (signature.length && *signature.length > bodies.canonical_size(body))
    return settle(report, SignatureResult::permerror, "l= is larger than the body");
  if (bodies.digest(body) != signature.body_hash)
    return settle(report, SignatureResult::fail, "body hash did not verify");
}

DkimVerifier::DkimVerifier(const HeaderIndex& header, BodyHashes& bodies, DkimLimits limits,
                           const std::vector<std::string>& authors)
    : header_(header), bodies_(bodies), limits_(limits) {
  const auto& places = header.named("DKIM-Signature");
  const auto read = std::min(places.size(), limits.most_reported);
  has_unread_ = places.size() > read;
  for (std::size_t i = 0; i < read; ++i) {
    Candidate candidate;
    candidate.place = places[i];
    candidate.signature = parse_signature(header.fields()[places[i]].value, SignatureKind::dkim);
    candidates_.push_back(std::move(candidate));
  }
  choose(authors);
  for (auto& candidate : candidates_)
    if (candidate.is_chosen && candidate.signature.fault.empty())
      candidate.body = bodies.add(candidate.signature.body_form, candidate.signature.length);
}

// Among those that can be verified at all: the others cost nothing more.
void DkimVerifier::choose(const std::vector<std::string>& authors) {
  std::vector<std::pair<int, std::size_t>> ranked;
  for (std::size_t i = 0; i < candidates_.size(); ++i)
    if (candidates_[i].signature.fault.empty())
      ranked.emplace_back(rank_of(candidates_[i].signature.domain, authors), i);
  std::sort(ranked.begin(), ranked.end());
  for (auto i = limits_.most_verified; i < ranked.size(); ++i)
    candidates_[ranked[i].second].is_chosen = false;
}

// Everything that can be judged without a key, so that nothing is asked for in vain.
SignatureReport DkimVerifier::before_key(const Candidate& candidate, TimePoint now) const {
  auto report = report_of(candidate.signature);
  if (!candidate.signature.fault.empty())
    settle(report, SignatureResult::permerror, candidate.signature.fault);
  else
    check_time_and_body(candidate.signature, bodies_, candidate.body, now, report);
  return report;
}

Asking<SignatureReport> DkimVerifier::check(const Candidate& candidate, TimePoint now) const {
  if (!candidate.is_chosen)
    co_return left_unverified(candidate.signature.domain);
  auto report = before_key(candidate, now);
  if (report.result != SignatureResult::none)
    co_return report;
  const auto& signature = candidate.signature;
  auto checked =
      co_await check_with_key(signature, header_digest(header_, candidate.place, signature));
  settle(report, checked.result, std::move(checked.reason));
  report.testing = checked.testing;
  report.key_bits = checked.key_bits;
  const bool partial =
      signature.length && *signature.length < bodies_.canonical_size(candidate.body);
  if (report.result == SignatureResult::pass && partial && !limits_.accept_partial_body)
    settle(report, SignatureResult::policy, "the end of the body is not signed (l=)");
  co_return report;
}

Asking<std::vector<SignatureReport>> DkimVerifier::verify(TimePoint now) const {
  if (header_.too_large())
    co_return std::vector<SignatureReport>{policy_report("header section too large")};
  std::vector<Asking<SignatureReport>> checks;
  for (const auto& candidate : candidates_)
    checks.push_back(check(candidate, now));
  auto reports = co_await all(std::move(checks));
  if (has_unread_)
    reports.push_back(left_unverified({}));
  co_return reports;
}

}  // namespace postrider::mailauth
