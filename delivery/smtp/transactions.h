// The messages of a conversation: envelope, content, and what the replies mean for them.
//
// With PIPELINING an envelope goes out in one piece; with CHUNKING too, a small message goes out
// whole, behind its envelope, once a message has gone by DATA: where a host sends a reply too many,
// its 354 is not where it should be, while behind a chunk the reply to a recipient would pass for the
// one to the message. Nothing is written behind the end of a message before its reply has
// been read: RFC 2920 would allow the next envelope there, but there are hosts that answer it with
// 503, hang up, or never see it, and what they say then is no verdict on the next message.
#pragma once

#include "base/result.h"
#include "delivery/job/job.h"
#include "delivery/smtp/client_wire.h"
#include "delivery/smtp/compatibility.h"
#include "delivery/smtp/handshake.h"
#include "delivery/smtp/mail_transaction.h"
#include "mail/reply.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::delivery {

class Transactions {
 public:
  // What has happened to a message ends the conversation.
  struct Over {
    mail::Outcome why;
    bool may_quit = true;
  };

  // Both outlive it.
  Transactions(ClientWire& wire, const Handshake& handshake, std::string remote, Dialect dialect)
      : wire_(wire), handshake_(handshake), remote_(std::move(remote)), dialect_(dialect) {}

  // By the wall clock: from it counts what is left of the time by which a message is wanted.
  void set_time(TimePoint now) { now_ = now; }
  Compatibility fitting(const Job& job) const;
  // Requires: none is open.
  void begin(Job job, std::shared_ptr<const std::string> converted);
  // Starts the message, or its next round, once all that was written before is answered.
  void advance();
  Result<void> on_reply(const ClientWire::Expected& expected, const mail::Reply& reply);
  // A 421 for something before the verdict on the content: the conversation ends behind that.
  void dismiss(const mail::Outcome& why);
  void body_written();
  void abandon_body(const mail::Outcome& outcome);
  // The conversation is over: everything open ends.
  void end_all(const mail::Outcome& why);
  std::vector<JobEnd> take_ended() { return std::exchange(ended_, {}); }
  std::vector<JobEnd> take_settled();

  bool are_open() const { return !open_.empty(); }
  bool is_spent() const;
  std::uint32_t messages() const { return messages_; }
  const std::optional<Over>& over() const { return over_; }
  const std::optional<mail::Outcome>& dismissed() const { return dismissed_; }
  // A message went out whole, with its envelope, and has no verdict yet.
  bool is_sent_in_one_piece() const;
  bool is_chunking_refused() const { return chunking_refused_; }

 private:
  const Capabilities& capabilities() const { return handshake_.capabilities(); }
  void start(MailTransaction& transaction);
  void send_rcpt(MailTransaction& transaction, std::size_t position);
  void send_data_or_chunk(MailTransaction& transaction);
  void send_body(MailTransaction& transaction);
  void expect_body_end(MailTransaction& transaction);
  bool ends_reports(const MailTransaction& transaction, std::size_t position) const;
  static bool goes_in_smaller_rounds(MailTransaction& transaction, const mail::Reply& reply);
  bool may_be_of_another_mind(mail::Stage stage, const mail::Reply& reply) const;
  void on_mail(MailTransaction& transaction, const mail::Reply& reply);
  void on_rcpt(MailTransaction& transaction, std::size_t position, const mail::Reply& reply);
  void on_envelope_answered(MailTransaction& transaction);
  Result<void> on_data(MailTransaction& transaction, const mail::Reply& reply);
  Result<void> on_body_end(MailTransaction& transaction, std::size_t position,
                           const mail::Reply& reply);
  void note_usual(const mail::Reply& reply);
  bool is_of_an_address(const MailTransaction& transaction, const mail::Reply& reply) const;
  static bool is_about_chunking(const MailTransaction& transaction, std::size_t position,
                                const mail::Reply& reply);
  void refuse_chunking(MailTransaction& transaction, const mail::Reply& reply);
  void finish_round(MailTransaction& transaction);
  void end(MailTransaction& transaction);

  ClientWire& wire_;
  const Handshake& handshake_;
  std::string remote_;
  Dialect dialect_;
  std::deque<std::unique_ptr<MailTransaction>> open_;
  std::deque<MailTransaction*> writing_;  // whose bodies are queued, in order; null: already ended
  std::vector<JobEnd> ended_;
  std::optional<mail::Outcome> dismissed_;  // a 421 came before the last reply
  std::optional<Over> over_;
  TimePoint now_;
  std::uint32_t messages_ = 0;
  bool has_carried_ = false;                    // a message that was taken
  std::optional<std::uint16_t> usual_subject_;  // of the enhanced code with which the first was
  bool dirty_ = false;  // the remote may still hold a transaction: RSET before the next MAIL
  bool chunking_refused_ = false;
};

}  // namespace postrider::delivery
