// What a handshake that failed means for the mail: clear text, another host, or waiting.
#include "delivery/tls/tls_policy.h"

namespace postrider::delivery {

namespace {

using Step = TlsAttempt::Step;

// Why the proof is not what was asked for; success if it is.
TlsResult shortfall(const TlsDemand& demand, TlsProof proof) {
  if (demand.mode == TlsMode::dane)
    return proof == TlsProof::dane ? TlsResult::success : TlsResult::validation_failure;
  switch (proof) {
    case TlsProof::name:
    case TlsProof::dane:
      return TlsResult::success;
    case TlsProof::wrong_name:
      return TlsResult::certificate_host_mismatch;
    case TlsProof::expired:
      return TlsResult::certificate_expired;
    case TlsProof::nothing:
    case TlsProof::chain:
      break;
  }
  return TlsResult::certificate_not_trusted;
}

std::string why_not(const TlsDemand& demand, TlsResult result) {
  switch (result) {
    case TlsResult::certificate_host_mismatch:
      return "its certificate does not name " +
             (demand.names.empty() ? std::string("the host") : demand.names.front());
    case TlsResult::certificate_expired:
      return "its certificate is not valid now";
    case TlsResult::certificate_not_trusted:
      return "its certificate is not trusted";
    default:
      return "its certificate does not match the TLSA records of " + demand.server_name;
  }
}

TlsVerdict judge_done(const TlsDemand& demand, const TlsAttempt& attempt) {
  TlsVerdict verdict;
  if (!demand.needs_name() && !demand.trial)
    return verdict;
  if (demand.trial && demand.trouble) {
    verdict.result = demand.trouble->result;
    verdict.reason = demand.trouble->text;
    return verdict;
  }
  verdict.result = shortfall(demand, attempt.proof);
  if (verdict.result == TlsResult::success)
    return verdict;
  verdict.reason = why_not(demand, verdict.result);
  if (!attempt.why.empty())
    verdict.reason += " (" + attempt.why + ")";
  if (!demand.trial)
    verdict.next = TlsNext::next_host;
  return verdict;
}

const char* proof_text(const TlsDemand& demand, TlsProof proof) {
  switch (proof) {
    case TlsProof::dane:
      return "dane";
    case TlsProof::name:
      return demand.names.empty() ? "chain" : "name";
    case TlsProof::chain:
      return "chain";
    case TlsProof::wrong_name:
      return "no (wrong name)";
    case TlsProof::expired:
      return "no (expired)";
    case TlsProof::nothing:
      break;
  }
  return "no";
}

}  // namespace

TlsVerdict judge(const TlsDemand& demand, const TlsAttempt& attempt) {
  TlsVerdict verdict;
  const bool may_go_in_clear = !demand.needs_tls();
  switch (attempt.step) {
    case Step::done:
      return judge_done(demand, attempt);
    case Step::not_offered:
      verdict.next = may_go_in_clear ? TlsNext::in_clear : TlsNext::next_host;
      verdict.result = TlsResult::starttls_not_supported;
      verdict.reason = "the host offers no STARTTLS";
      return verdict;
    case Step::declined:
      verdict.next = may_go_in_clear ? TlsNext::in_clear : TlsNext::next_host;
      verdict.result = TlsResult::starttls_not_supported;
      verdict.reason = "the host refused STARTTLS: " + attempt.why;
      return verdict;
    case Step::injected:
      verdict.next = TlsNext::next_host;
      verdict.result = TlsResult::validation_failure;
      verdict.reason = "something was sent in clear behind the reply to STARTTLS: an attack";
      return verdict;
    case Step::broken:
      verdict.next = may_go_in_clear ? TlsNext::clear_again : TlsNext::next_host;
      verdict.result = TlsResult::validation_failure;
      verdict.reason = "the TLS handshake failed: " + attempt.why;
      return verdict;
    case Step::unanswered:
      verdict.next = may_go_in_clear ? TlsNext::clear_again : TlsNext::next_host;
      verdict.result = TlsResult::validation_failure;
      verdict.reason = "STARTTLS got no answer: " + attempt.why;
      return verdict;
    case Step::cut_off:
      verdict.next = may_go_in_clear ? TlsNext::clear_again : TlsNext::next_host;
      verdict.result = TlsResult::validation_failure;
      verdict.reason = "the connection broke under TLS: " + attempt.why;
      return verdict;
  }
  return verdict;
}

std::string describe_state(const TlsDemand& demand, const TlsAttempt& attempt,
                           const TlsVerdict& verdict) {
  if (demand.mode == TlsMode::off)
    return "none (off by the route)";
  const bool was_left = verdict.next == TlsNext::next_host;
  if (attempt.step != Step::done || was_left)
    return "none (" + verdict.reason + ")";
  std::string text = attempt.protocol + " " + attempt.cipher;
  text += std::string(" verified=") + proof_text(demand, attempt.proof);
  if (attempt.resumed)
    text += " resumed";
  if (demand.trial && !verdict.reason.empty())
    text += " (MTA-STS testing: " + verdict.reason + ")";
  return text;
}

}  // namespace postrider::delivery
