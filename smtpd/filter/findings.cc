// What was found out about a message, as results of RFC 8601, and for the reports of DMARC.
#include "base/text.h"
#include "mailauth/auth_results.h"
#include "smtpd/filter/authentication.h"

#include <algorithm>

namespace postrider::smtpd::filter {

using mailauth::MethodResult;

namespace {

// RFC 8601 §2.7.3, §3: whether the name of the client's address leads back to it.
MethodResult iprev_result(const Client& client) {
  using Status = ClientName::Status;
  MethodResult result{"iprev", "temperror"};
  switch (client.name->status) {
    case Status::confirmed:
      result.result = "pass";
      result.comment = client.name->name;
      break;
    case Status::unconfirmed:
      result.result = "fail";
      break;
    case Status::none:
      result.result = "permerror";
      break;
    case Status::unknown:
      break;
  }
  result.properties.push_back({"policy", "iprev", client.address.str()});
  return result;
}

MethodResult spf_result(const mailauth::SpfVerdict& verdict, const char* identity,
                        std::string_view value) {
  MethodResult result{"spf", std::string(to_string(verdict.result))};
  result.reason = verdict.reason;
  result.properties.push_back({"smtp", identity, std::string(value)});
  return result;
}

MethodResult dmarc_result(const Findings& findings) {
  if (!findings.dmarc || findings.has_unseen_authors)
    return {"dmarc", "permerror", {}, findings.from_problem};
  const auto& verdict = *findings.dmarc;
  MethodResult result{"dmarc", std::string(to_string(verdict.result))};
  result.reason = verdict.reason;
  if (!findings.exception.empty())
    result.reason = "exception for " + findings.exception;
  result.properties.push_back({"header", "from", verdict.author_domain});
  if (!verdict.policy_domain.empty())
    result.properties.push_back({"policy", "dmarc", std::string(to_string(verdict.applied))});
  return result;
}

mailauth::Treatment treatment_of(const Findings& findings, const mailauth::DmarcVerdict& verdict) {
  using mailauth::OverrideReason;
  mailauth::Treatment treatment;
  if (findings.disposition == Findings::Disposition::quarantine)
    treatment.action = mailauth::DmarcPolicy::quarantine;
  else if (findings.disposition == Findings::Disposition::reject)
    treatment.action = mailauth::DmarcPolicy::reject;
  if (verdict.result == mailauth::DmarcResult::temperror &&
      verdict.published != mailauth::DmarcPolicy::none) {
    treatment.reason = OverrideReason::other;
    treatment.comment = "no answer from the DNS";
  } else if (findings.exception.starts_with("sealer:")) {
    treatment.reason = OverrideReason::trusted_forwarder;
    treatment.comment = "arc=pass";
  } else if (findings.exception == "postmaster") {
    treatment.reason = OverrideReason::local_policy;
    treatment.comment = "to postmaster or abuse";
  } else if (!findings.exception.empty() || findings.has_unseen_authors) {
    treatment.reason = OverrideReason::local_policy;
  } else if (findings.has_unseen_signature && verdict.wish() == mailauth::DmarcPolicy::reject) {
    treatment.reason = OverrideReason::local_policy;
    treatment.comment = "too many signatures";
  }
  return treatment;
}

bool is_for_reporter_alone(const mail::Envelope& envelope, const std::string& address) {
  return std::all_of(envelope.recipients.begin(), envelope.recipients.end(),
                     [&](const mail::Recipient& recipient) {
                       return equals_ignoring_case(recipient.address, address);
                     });
}

}  // namespace

void report(const AuthenticationSettings& settings, const Findings& findings,
            const IpAddress& client, const mail::Envelope& envelope) {
  if (!settings.reports || !findings.mail_from ||
      is_for_reporter_alone(envelope, settings.reports_from))
    return;
  // Reports beget no reports; one that only says that it is one is reported as all mail is.
  const auto is_true_report = [&](const mailauth::DmarcVerdict& verdict) {
    return findings.is_report && verdict.result == mailauth::DmarcResult::pass;
  };
  for (const auto& verdict : findings.of_authors)
    if (asks_for_reports(verdict) && !is_true_report(verdict))
      settings.reports(mailauth::published_policy(verdict),
                       mailauth::report_row(
                           verdict, client, *findings.mail_from,
                           findings.signatures.value_or(std::vector<mailauth::SignatureReport>()),
                           treatment_of(findings, verdict)));
}

std::vector<MethodResult> results_of(const Findings& findings, const Facts& facts,
                                     std::string_view sender) {
  std::vector<MethodResult> results;
  if (facts.client.name)
    results.push_back(iprev_result(facts.client));
  if (findings.mail_from && !sender.empty())
    results.push_back(spf_result(*findings.mail_from, "mailfrom", sender));
  if (findings.helo)
    results.push_back(spf_result(*findings.helo, "helo", facts.helo));
  if (findings.signatures)
    for (auto& each : mailauth::dkim_results(*findings.signatures))
      results.push_back(std::move(each));
  if (findings.chain && findings.chain->result != mailauth::ChainResult::none)
    results.push_back(mailauth::arc_result(*findings.chain));
  if (findings.dmarc || !findings.from_problem.empty())
    results.push_back(dmarc_result(findings));
  return results;
}

}  // namespace postrider::smtpd::filter
