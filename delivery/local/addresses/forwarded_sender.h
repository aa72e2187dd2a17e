// The envelope sender of mail that an address here sends on to another system. The next host asks
// SPF whether we may send for that sender's domain; only the domain itself can say so. So the
// sender becomes an address of ours (mailauth/srs.h), and what comes back for that address goes to
// whom it was made of.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mail/message.h"
#include "mailauth/srs.h"

#include <optional>
#include <string>
#include <string_view>

namespace postrider::delivery {

class LocalAddresses;
struct Expansion;

// Immutable; thread-safe.
class SenderRewriter {
 public:
  // Requires what mailauth::Srs does. clock outlives this.
  SenderRewriter(const mailauth::SrsRules& rules, const Clock& clock);

  const std::string& domain() const { return domain_; }
  // See mailauth::Srs::forward().
  Result<std::string> forward(const std::string& sender) const;

  enum class Seen {
    now,    // it must be valid now
    before  // it was when its mail was taken, which may have waited since: its age no longer counts
  };
  // What an address was made of. Nothing: it is not written as one of ours. Errc::refused: nobody
  // here made it, or too long ago.
  Result<std::optional<std::string>> original(const std::string& mailbox, Seen seen) const;

 private:
  std::string domain_;
  const Clock& clock_;
  mailauth::Srs fresh_, aged_;
};

// Fills in ExpandedRecipient::sender for those on other systems. A sender that is null, or of a
// domain of ours, stays; and so does that of mail by this machine's own users and by users who are
// logged in: they may send from here under that name, wherever it goes. Nothing changes where the
// book has no rewriter.
void rewrite_senders(const LocalAddresses& book, const mail::Message& message,
                     Expansion& expansion);

// Whether any recipient, of a list too, is on another system.
bool goes_elsewhere(const LocalAddresses& book, const Expansion& expansion);

// Whom a notice about a message is for: behind a sender that was rewritten here stands another.
std::string notified_sender(const LocalAddresses* book, const std::string& sender);

}  // namespace postrider::delivery
