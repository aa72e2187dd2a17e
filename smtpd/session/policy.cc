#include "smtpd/session/policy.h"

#include "base/memory_only.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/envelope.h"
#include "mail/smtp_command.h"

#include <algorithm>

namespace postrider::smtpd {

namespace {

// more: lines of its own, "\r\n250-STARTTLS".
std::string compose_ehlo(const SessionSettings& settings, std::string_view more = {}) {
  const auto recipients = std::to_string(std::max(settings.recipients, 100U));
  return "250-" + settings.hostname +
         "\r\n250-PIPELINING"
         "\r\n250-SIZE " +
         std::to_string(settings.message_size) +
         "\r\n250-8BITMIME"
         "\r\n250-SMTPUTF8"
         "\r\n250-CHUNKING"
         "\r\n250-BINARYMIME"
         "\r\n250-DSN"
         "\r\n250-ENHANCEDSTATUSCODES"
         "\r\n250-LIMITS RCPTMAX=" +
         recipients + (settings.deliver_by ? "\r\n250-DELIVERBY" : "") + "\r\n250-MT-PRIORITY" +
         std::string(more) + "\r\n250 HELP\r\n";
}

// Routing hidden in a local part, which the next host might act on (Postfix calls it untrusted
// routing): never passed on for a stranger.
bool hides_a_route(std::string_view local_part) {
  return mail::unquoted_local_part(local_part).find_first_of("@%!") != std::string::npos;
}

}  // namespace

bool domain_matches(std::string_view pattern, std::string_view domain) {
  if (pattern == "*")
    return true;
  if (pattern.starts_with('.'))
    return domain.size() > pattern.size() && domain.ends_with(pattern);
  return domain == pattern;
}

Policy::Policy(std::shared_ptr<const SessionSettings> settings)
    : settings_(std::move(settings)),
      greeting_("220 " + settings_->hostname + " ESMTP Postrider\r\n"),
      helo_reply_("250 " + settings_->hostname + "\r\n"),
      ehlo_reply_(compose_ehlo(*settings_)),
      ehlo_reply_with_starttls_(compose_ehlo(*settings_, "\r\n250-STARTTLS")),
      ehlo_reply_in_tls_(compose_ehlo(*settings_, "\r\n250-REQUIRETLS")) {}

bool Policy::is_trusted(const IpAddress& address) const {
  if (address.is_none())
    return true;
  return std::any_of(settings_->relay_from.begin(), settings_->relay_from.end(),
                     [&](const Network& network) { return network.contains(address); });
}

bool Policy::is_trusted_certificate(std::string_view fingerprint) const {
  const auto& trusted = settings_->relay_certificates;
  return !fingerprint.empty() &&
         std::find(trusted.begin(), trusted.end(), fingerprint) != trusted.end();
}

bool Policy::may_send_proxy_header(const IpAddress& address) const {
  return std::any_of(settings_->proxy_from.begin(), settings_->proxy_from.end(),
                     [&](const Network& network) { return network.contains(address); });
}

bool Policy::relays_to(std::string_view domain) const {
  return std::any_of(settings_->relay_to.begin(), settings_->relay_to.end(),
                     [&](const std::string& pattern) { return domain_matches(pattern, domain); });
}

Policy::Answer Policy::judge(const Question& question) const {
  return question.kind == Question::Kind::sender ? judge_sender(question)
                                                 : judge_recipient(question);
}

std::optional<Policy::Answer> Policy::judge_now(const Question& question, bool stale) const {
  const MemoryOnly memory(stale);
  auto answer = judge(question);
  if (memory.was_not_enough())
    return std::nullopt;
  return answer;
}

Policy::Answer Policy::judge_sender(const Question& question) const {
  Answer answer;
  answer.refusal = refusal(settings_->senders, question.address);
  if (!answer.refusal.empty()) {
    answer.verdict = Verdict::refused;
    return answer;
  }
  answer.verdict = Verdict::accepted;
  answer.sender = question.address;
  const auto* rewriter = settings_->rewriter.get();
  if (rewriter == nullptr || question.address.empty())
    return answer;
  auto fresh = rewriter->sender(question.address);
  if (fresh)
    answer.sender = question.is_submission ? rewriter->masqueraded(*fresh) : *std::move(fresh);
  else
    answer = {Verdict::cannot_tell, {}, tables::told(fresh.error()), {}, {}};
  return answer;
}

Policy::Answer Policy::judge_recipient(const Question& question) const {
  Answer answer;
  answer.refusal = refusal(settings_->recipient_map, question.recipient.address);
  if (!answer.refusal.empty()) {
    answer.verdict = Verdict::refused;
    return answer;
  }
  const auto* address = &question.recipient.address;
  if (settings_->rewriter) {
    auto recipient = question.recipient;
    const auto changed = settings_->rewriter->apply(recipient);
    if (!changed) {
      answer.problem = tables::told(changed.error());
      return answer;
    }
    if (*changed)
      address = &answer.rewritten.emplace(std::move(recipient)).address;
  }
  answer.verdict = find_recipient(question.may_relay, *address);
  return answer;
}

std::string Policy::refusal(const std::vector<TablePtr>& tables, std::string_view address) {
  return refusal(look_up_access(tables, address));
}

std::string Policy::refusal(const Access& access) {
  switch (access.kind) {
    case Access::Kind::none:
    case Access::Kind::ok:
      return {};
    case Access::Kind::reject:
      return "550 5.7.1 " + (access.text.empty() ? "Refused by policy" : access.text) + "\r\n";
    case Access::Kind::defer:
      return "450 4.7.1 " + (access.text.empty() ? "Not now, by policy" : access.text) + "\r\n";
    case Access::Kind::cannot_tell:
      break;
  }
  return "451 4.3.0 Cannot check this address now\r\n";
}

void Policy::limit_notices(const Client& client, mail::Notify& notify) const {
  if (reports_success_to(client) || (notify.bits & mail::Notify::kSuccess) == 0)
    return;
  notify.bits = static_cast<std::uint8_t>(notify.bits & ~mail::Notify::kSuccess);
  if (notify.bits == 0)
    notify.bits = mail::Notify::kNever;  // nothing else was wanted
}

// To one of our own users too: who waits with the content until the time is over would have it sent.
bool Policy::would_return(const Client& client, const mail::Envelope& envelope) const {
  return envelope.deliver_by && envelope.deliver_by->returns && !reports_success_to(client);
}

// A local part is never taken apart: "u%ext@us" and "ext!u@us" are users of that name, who do not
// exist (attacks.md A01 to A15).
Policy::Verdict Policy::find_recipient(bool may_relay, std::string_view address) const {
  const auto* directory = settings_->directory.get();
  if (directory == nullptr && may_relay)
    return Verdict::accepted;
  const auto domain = mail::domain_of(address);
  if (domain.empty())
    return Verdict::accepted;  // "postmaster" alone, which RFC 5321 §4.5.1 wants always accepted
  const auto local_part = mail::local_part_of(address);
  if (directory != nullptr && directory->is_local_domain(domain)) {
    switch (directory->lookup(mail::unquoted_local_part(local_part), domain)) {
      case mail::Directory::Answer::known:
        return Verdict::accepted;
      case mail::Directory::Answer::unknown:
        return Verdict::no_such_user;
      case mail::Directory::Answer::circle:
        return Verdict::circle;
      case mail::Directory::Answer::cannot_tell:
        return Verdict::cannot_tell;
    }
  }
  const bool is_relayed = relays_to(domain) && !hides_a_route(local_part);
  if (is_relayed && !settings_->relay_recipients.empty()) {
    const auto listed = is_listed(settings_->relay_recipients, address);
    if (!listed)
      return Verdict::cannot_tell;
    return *listed ? Verdict::accepted : Verdict::no_such_user;
  }
  if (may_relay || is_relayed)
    return Verdict::accepted;
  // Or a table that may hold the domain cannot be read.
  const bool is_foreign =
      directory == nullptr || directory->lookup(mail::unquoted_local_part(local_part), domain) !=
                                  mail::Directory::Answer::cannot_tell;
  return is_foreign ? Verdict::no_relay : Verdict::cannot_tell;
}

}  // namespace postrider::smtpd
