// One mail transaction of a session (RFC 5321 §3.3), from MAIL until its message is stored or
// refused, or RSET (pure).
//
//   none --MAIL--> sender --RCPT--> recipients --BDAT--> chunks --DATA, refused chunk--> failed
//
// Which of its commands is allowed when is the session's business (smtpd/session/command_rules.h);
// BDAT comes at any time. What was said since MAIL is one struct, replaced as a whole.
#pragma once

#include "mail/envelope.h"
#include "mail/smtp_command.h"
#include "smtpd/session/composed_reply.h"
#include "smtpd/session/session_facts.h"
#include "smtpd/session/session_step.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class SessionTransaction {
 public:
  enum class Phase : std::uint8_t { none, sender, recipients, chunks, failed };
  // What its commands are judged by, and where its replies are composed.
  struct Around {
    const SessionFacts& facts;
    const Conditions& conditions;
    ComposedReply& reply;
  };

  Step on_mail(std::string_view arguments, const Around& around);
  Step on_rcpt(std::string_view arguments, const Around& around);
  Step on_data(std::string_view arguments);
  Step on_bdat(std::string_view arguments, const Around& around);

  // The address of the MAIL or RCPT that waits, after Next::look_up.
  const Policy::Question& question() const { return pending_->question; }
  struct LookedUp {
    Step step;
    std::string_view verb;
    std::string argument;  // of the command
  };
  // The policy's answer to question(). None: it took too long.
  LookedUp on_looked_up(std::optional<Policy::Answer> answer, const Around& around);

  // Why a message with this content is refused, as a reply; empty: it is not.
  std::string_view refusal_of(const ContentSummary& content, const Around& around) const;

  // The RCPT that was accepted last is refused after all. was_added: by that one.
  void take_back_recipient(bool was_added);
  void reset();
  // The message is refused; what follows of it is skipped, until RSET.
  void fail();

  Phase phase() const { return phase_; }
  bool is_begun() const { return phase_ != Phase::none; }
  // More chunks of the message follow the one at hand.
  bool is_between_chunks() const { return phase_ == Phase::chunks && !chunk_.last; }
  // Of the BDAT at hand.
  const mail::BdatCommand& chunk() const { return chunk_; }
  bool has_tiny_chunk() const;
  // Whether the last RCPT has named somebody new.
  bool has_added_recipient() const { return has_added_recipient_; }
  // As MAIL says; 0: it does not.
  std::uint64_t declared_size() const { return said_.declared_size; }
  const mail::Envelope& envelope() const { return said_.envelope; }
  // For filters, and for whoever takes the message.
  mail::Envelope& envelope_to_change() { return said_.envelope; }
  // Of memory, as far as recipients make it grow.
  std::size_t octets() const { return said_.octets; }

 private:
  struct Said {
    mail::Envelope envelope;
    std::uint64_t declared_size = 0;
    std::uint32_t recipients_refused = 0;
    std::uint32_t recipients_beyond = 0;  // the limit
    std::size_t octets = 0;               // of the recipients
  };
  // MAIL or RCPT, while it is looked up.
  struct Pending {
    Policy::Question question;
    mail::MailCommand mail;  // without its sender
    std::string argument;
  };

  Step look_up(Policy::Question question, mail::MailCommand mail, std::string_view argument);
  Step begin(mail::MailCommand& mail, Policy::Answer& answer, const Around& around);
  Step add(mail::Recipient& recipient, Policy::Answer& answer, const Around& around);
  // The reply to MAIL, if its priority is not the one that was asked for; empty: it is.
  static std::string_view take_wishes(const mail::MailCommand& mail, const Around& around,
                                      mail::Envelope& envelope);

  Phase phase_ = Phase::none;
  Said said_;
  mail::BdatCommand chunk_;
  std::unique_ptr<Pending> pending_;
  bool has_added_recipient_ = false;
};

}  // namespace postrider::smtpd
