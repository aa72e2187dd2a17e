// What a client of the submission role may send, and as whom (RFC 6409 §6.1): its sender addresses,
// the authors of its header, and how many messages and recipients (pure). A view of a session's
// facts, made where it is needed.
#pragma once

#include "smtpd/session/session_facts.h"

#include <string>
#include <string_view>

namespace postrider::smtpd {

class SendingRights {
 public:
  explicit SendingRights(const SessionFacts& facts) : facts_(facts) {}

  // Why this client may not begin a message from this sender, as a reply; empty: it may. sender:
  // as parse_mail gives it.
  std::string_view refusal_of(std::string_view sender) const;
  // Count one more of this user's; a reply where that would exceed a limit, and then nothing was
  // counted, else empty. Users of this machine have the same limits here as by sendmail, in the
  // same counts. kept_for: before it is sent; where it is days, some of them may have been counted.
  std::string count_message(Duration kept_for) const;
  std::string count_recipient(std::string_view recipient) const;
  // Whether the authors that a header section names may be checked, and may all be this client's:
  // From and Sender, every address in them, by the sender map.
  bool checks_authors() const;
  bool may_write_as(std::string_view header_section) const;

 private:
  std::string count_one() const;
  const SessionFacts& facts_;
};

}  // namespace postrider::smtpd
