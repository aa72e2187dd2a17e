#include "mailauth/verdicts.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::mailauth {

std::vector<Identifier> identifiers_of(const SpfVerdict& mail_from,
                                       const std::vector<SignatureReport>& signatures) {
  std::vector<Identifier> identifiers;
  const auto add = [&](Identifier::Method method, const std::string& domain, bool is_certain) {
    Identifier one;
    one.method = method;
    one.domain = ascii_lower(domain);
    one.is_certain = is_certain;
    const bool is_known =
        std::any_of(identifiers.begin(), identifiers.end(), [&](const Identifier& other) {
          return other.method == one.method && other.domain == one.domain;
        });
    if (!is_known && !domain.empty())
      identifiers.push_back(std::move(one));
  };
  for (const bool is_certain : {true, false}) {
    if (mail_from.result == (is_certain ? SpfResult::pass : SpfResult::temperror))
      add(Identifier::Method::spf, mail_from.domain, is_certain);
    for (const auto& signature : signatures)
      if (signature.result == (is_certain ? SignatureResult::pass : SignatureResult::temperror))
        add(Identifier::Method::dkim, signature.domain, is_certain);
  }
  return identifiers;
}

MethodResult spf_result(const SpfVerdict& verdict, SpfIdentity identity) {
  MethodResult result;
  result.method = "spf";
  result.result = to_string(verdict.result);
  if (verdict.result == SpfResult::temperror || verdict.result == SpfResult::permerror)
    result.reason = verdict.reason;
  const auto* name = identity == SpfIdentity::helo ? "helo" : "mailfrom";
  if (!verdict.domain.empty())
    result.properties.push_back({"smtp", name, verdict.domain});
  return result;
}

MethodResult dmarc_result(const DmarcVerdict& verdict) {
  MethodResult result;
  result.method = "dmarc";
  result.result = to_string(verdict.result);
  if (verdict.result == DmarcResult::temperror || verdict.result == DmarcResult::permerror)
    result.reason = verdict.reason;
  if (!verdict.author_domain.empty())
    result.properties.push_back({"header", "from", verdict.author_domain});
  if (!verdict.policy_domain.empty())
    result.properties.push_back({"policy", "dmarc", std::string(to_string(verdict.applied))});
  return result;
}

}  // namespace postrider::mailauth
