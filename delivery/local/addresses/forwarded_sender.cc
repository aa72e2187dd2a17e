#include "delivery/local/addresses/forwarded_sender.h"

#include "base/text.h"
#include "delivery/local/addresses/expander.h"
#include "delivery/local/addresses/local_addresses.h"
#include "mail/envelope.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

// The longest lifetime of mail that the configuration takes, and a day.
constexpr unsigned kLongestLifetime = 61;

mailauth::Srs with_age(mailauth::SrsRules rules, unsigned more) {
  rules.max_age_days += more;
  return mailauth::Srs(std::move(rules));
}

// RFC 3848: "ESMTPSA", "UTF8SMTPA"; and what sendmail took.
bool is_of_our_users(const mail::Origin& origin) {
  return origin.protocol == "local" || origin.protocol.ends_with("SMTPA") ||
         origin.protocol.ends_with("SMTPSA");
}

bool is_domain_here(const LocalAddresses& book, std::string_view domain) {
  return domain.empty() || domain == book.home() || domain == book.rules().hostname ||
         book.is_ours(domain);
}

bool goes_elsewhere(const LocalAddresses& book, const ExpandedRecipient& to) {
  return to.leaf.kind == ResolvedRecipient::Kind::address &&
         !is_domain_here(book, mail::domain_of(to.address));
}

}  // namespace

SenderRewriter::SenderRewriter(const mailauth::SrsRules& rules, const Clock& clock)
    : domain_(rules.domain),
      clock_(clock),
      fresh_(with_age(rules, 0)),
      aged_(with_age(rules, kLongestLifetime)) {}

Result<std::string> SenderRewriter::forward(const std::string& sender) const {
  return fresh_.forward(sender, clock_.now());
}

Result<std::optional<std::string>> SenderRewriter::original(const std::string& mailbox,
                                                            Seen seen) const {
  if (mail::domain_of(mailbox) != domain_ || !mailauth::Srs::is_srs(mailbox))
    return std::optional<std::string>();
  auto original = (seen == Seen::now ? fresh_ : aged_).reverse(mailbox, clock_.now());
  if (original)
    return std::optional(*std::move(original));
  if (original.error().code() == make_error_code(Errc::refused))
    return original.error();
  return std::optional<std::string>();  // a name like others: "srs0+tag"
}

void rewrite_senders(const LocalAddresses& book, const mail::Message& message,
                     Expansion& expansion) {
  const auto& rewriter = book.rules().rewriter;
  const auto& sender = message.envelope.sender;
  if (!rewriter || sender.empty() || is_of_our_users(message.origin) ||
      is_domain_here(book, mail::domain_of(sender)))
    return;
  std::optional<Result<std::string>> made;  // when the first needs it
  for (auto& to : expansion.recipients) {
    if (!to.owner.empty() || !goes_elsewhere(book, to))
      continue;
    if (!made) {
      made = rewriter->forward(sender);
      if (!*made)
        expansion.problems.push_back("the sender " + escaped(sender) +
                                     " stays as it is: " + made->error().describe());
    }
    if (*made)
      to.sender = **made;
  }
}

bool goes_elsewhere(const LocalAddresses& book, const Expansion& expansion) {
  return std::any_of(expansion.recipients.begin(), expansion.recipients.end(),
                     [&](const auto& to) { return goes_elsewhere(book, to); });
}

std::string notified_sender(const LocalAddresses* book, const std::string& sender) {
  if (book == nullptr || !book->rules().rewriter)
    return sender;
  auto original = book->rules().rewriter->original(sender, SenderRewriter::Seen::before);
  return original && *original ? **std::move(original) : sender;
}

}  // namespace postrider::delivery
