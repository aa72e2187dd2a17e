// Who may send what where. Immutable, made at start and at each reload, shared by the
// sessions that began with it. Asks tables and the directory, does no other I/O.
#pragma once

#include "mail/envelope.h"
#include "smtpd/session/client_name.h"
#include "smtpd/session/session_settings.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd {

// The far end as the policy sees it.
struct Client {
  IpAddress address;  // none: a Unix socket
  std::uint16_t port = 0;
  // Whose mail it counts as, if it is of a user of this machine who is not logged in.
  std::optional<std::uint32_t> local_user;
  bool trusted = false;       // within relay_from, or on a Unix socket
  std::string authenticated;  // the user, once AUTH has succeeded; empty: nobody
  std::string mechanism;      // by which
  // None: it is not looked up, or has no answer yet.
  std::optional<ClientName> name = {};
};

class Policy {
 public:
  explicit Policy(std::shared_ptr<const SessionSettings> settings);

  const SessionSettings& settings() const { return *settings_; }
  const Limits& limits() const { return settings_->limits; }

  // relay_from; a Unix socket is guarded by its folder's permissions.
  bool is_trusted(const IpAddress& address) const;
  // fingerprint: SHA-256 of the client's certificate, lower-case hex; empty: none.
  bool is_trusted_certificate(std::string_view fingerprint) const;
  bool may_send_proxy_header(const IpAddress& address) const;

  // Of MAIL or RCPT: everything that tables and the directory say about its address.
  struct Question {
    enum class Kind : std::uint8_t { sender, recipient };
    Kind kind = Kind::sender;
    bool is_submission = false;  // masquerades senders
    bool may_relay = false;
    std::string address;        // as parse_mail or parse_rcpt give it
    mail::Recipient recipient;  // of Kind::recipient, for whom address is empty
  };
  struct Answer {
    enum class Verdict : std::uint8_t {
      accepted,
      refused,
      no_relay,
      no_such_user,
      circle,
      cannot_tell
    };
    Verdict verdict = Verdict::cannot_tell;
    std::string refusal;                       // of Verdict::refused: a reply for the wire
    std::string problem;                       // of Verdict::cannot_tell, for the log
    std::string sender;                        // as it goes on
    std::optional<mail::Recipient> rewritten;  // none: as it was
  };
  using Verdict = Answer::Verdict;
  // May take as long as a table or a directory service does: not on a network loop.
  Answer judge(const Question& question) const;
  // The same from memory alone; nothing: it must be asked. stale: from old answers too.
  std::optional<Answer> judge_now(const Question& question, bool stale = false) const;

  // What the tables say: empty, or a reply for the wire.
  static std::string refusal(const std::vector<TablePtr>& tables, std::string_view address);
  static std::string refusal(const Access& access);
  // One of ours, who may send anywhere.
  static bool may_relay(const Client& client) {
    return client.trusted || !client.authenticated.empty();
  }
  // A report of success goes to whoever the sender claims to be: a stranger could have it sent to
  // anybody, and larger than what it cost him. The other words of NOTIFY stay.
  void limit_notices(const Client& client, mail::Notify& notify) const;
  // Whether mail to be returned when it is late (mode R of RFC 2852) is not taken: of a stranger, it
  // would go to whoever he claims to be.
  bool would_return(const Client& client, const mail::Envelope& envelope) const;
  // Completes addresses without a domain.
  const std::string& origin() const {
    return settings_->origin.empty() ? settings_->hostname : settings_->origin;
  }

  // Composed once, for the wire.
  const std::string& greeting() const { return greeting_; }
  const std::string& helo_reply() const { return helo_reply_; }
  const std::string& ehlo_reply() const { return ehlo_reply_; }
  const std::string& ehlo_reply_with_starttls() const { return ehlo_reply_with_starttls_; }
  const std::string& ehlo_reply_in_tls() const { return ehlo_reply_in_tls_; }

 private:
  bool reports_success_to(const Client& client) const {
    return settings_->success_notices || may_relay(client);
  }
  bool relays_to(std::string_view domain) const;
  Answer judge_sender(const Question& question) const;
  Answer judge_recipient(const Question& question) const;
  Verdict find_recipient(bool may_relay, std::string_view address) const;

  std::shared_ptr<const SessionSettings> settings_;
  std::string greeting_;
  std::string helo_reply_;
  std::string ehlo_reply_;
  std::string ehlo_reply_with_starttls_;
  std::string ehlo_reply_in_tls_;
};

// "example.org" itself, ".example.org" everything below it, "*" all.
bool domain_matches(std::string_view pattern, std::string_view domain);

}  // namespace postrider::smtpd
