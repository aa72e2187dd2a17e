#include "smtpd/filter/filter_log.h"

#include <algorithm>

namespace postrider::smtpd::filter::maillog {

namespace {

// pass before temperror before anything else that is said.
std::string_view best_of(const std::vector<mailauth::SignatureReport>& reports) {
  using mailauth::SignatureResult;
  const auto has = [&](SignatureResult result) {
    return std::any_of(reports.begin(), reports.end(),
                       [&](const auto& report) { return report.result == result; });
  };
  for (const auto result : {SignatureResult::pass, SignatureResult::temperror})
    if (has(result))
      return to_string(result);
  return to_string(reports.empty() ? SignatureResult::none : reports.front().result);
}

const char* name_of(Findings::Disposition disposition) {
  constexpr const char* kNames[] = {"none", "quarantine", "reject"};
  return kNames[static_cast<int>(disposition)];
}

}  // namespace

void checked(Log& log, const Facts& facts, mail::MessageId id, const Findings& findings,
             Duration time) {
  if (!log.enabled(Level::info))
    return;
  LogEvent event(Level::info, "checked", to_string(id));
  event.add("session", facts.session).add("client", facts.client.address.str());
  if (findings.mail_from)
    event.add("spf", to_string(findings.mail_from->result));
  if (findings.helo)
    event.add("helo_spf", to_string(findings.helo->result));
  if (findings.signatures)
    event.add("dkim", best_of(*findings.signatures));
  if (findings.chain)
    event.add("arc", to_string(findings.chain->result));
  if (findings.dmarc) {
    event.add("dmarc", to_string(findings.has_unseen_authors ? mailauth::DmarcResult::permerror
                                                             : findings.dmarc->result));
    event.add("author", findings.dmarc->author_domain);
    if (!findings.dmarc->policy_domain.empty())
      event.add("policy", to_string(findings.dmarc->applied));
  }
  event.add("disposition", name_of(findings.disposition));
  if (!findings.exception.empty())
    event.add("exception", findings.exception);
  if (!findings.from_problem.empty())
    event.add("problem", findings.from_problem);
  event.add("milliseconds", std::to_string(time.count()));
  log.write(std::move(event));
}

}  // namespace postrider::smtpd::filter::maillog
