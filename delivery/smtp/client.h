// One SMTP or LMTP conversation, sending side, without the socket.
//
//   Handshake: greeting, EHLO, STARTTLS, AUTH --> ready --begin()--> Transactions --> ready
//                                     failure, 421, loss anywhere --> closing
//
// The driver sends what take_output() gives, feeds what arrives, and collects what has ended. Every
// reply is matched with the command that it answers; a reply that nothing asked for means that the
// conversation is out of step, and then nothing more is believed (attacks.md M17, P).
#pragma once

#include "base/result.h"
#include "delivery/smtp/client_wire.h"
#include "delivery/smtp/handshake.h"
#include "delivery/smtp/transactions.h"
#include "mail/reply.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

class Client {
 public:
  // remote: "mx1.example.org[192.0.2.1]:25", for outcomes.
  Client(std::string hostname, std::string remote, Dialect dialect, Security security = {});
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // --- bytes ---
  // An error means out of step or a violated limit: call lost() with it and close.
  Result<void> feed(std::string_view bytes);
  bool has_output() const { return wire_.has_output(); }
  std::vector<Piece> take_output() { return wire_.take_output(); }
  // The body of the piece sent first has been written to its end.
  void body_written() { transactions_.body_written(); }
  // The body being sent turned out to be unsendable: its recipients end like this, and the
  // connection must be closed, for the content is cut short.
  void abandon_body(const mail::Outcome& outcome);
  // The connection is gone, or no longer of use. Everything open ends.
  void lost(const Error& error);

  // --- protection: what the driver must do before it reads on ---
  bool wants_handshake() const { return is_at(Handshake::State::handshaking); }
  // How it ended: done or broken.
  void on_handshake(TlsAttempt attempt) { handshake_.on_tls(std::move(attempt)); }
  // A challenge waits: call sasl().step(challenge()), which may take long, then answer().
  bool wants_sasl_step() const { return is_at(Handshake::State::challenged); }
  std::shared_ptr<SaslClient> sasl() const { return handshake_.sasl(); }
  const std::string& challenge() const { return handshake_.challenge(); }
  void answer(Result<std::string> response) { handshake_.answer(std::move(response)); }
  // For SCRAM-SHA-256-PLUS; before on_handshake().
  void set_channel_binding(std::string tls_exporter) {
    handshake_.set_channel_binding(std::move(tls_exporter));
  }

  // --- messages ---
  bool is_ready() const { return is_at(Handshake::State::ready); }
  bool is_idle() const { return is_ready() && !transactions_.are_open() && !wire_.is_waiting(); }
  // The conversation is over: close, after a polite QUIT if may_quit().
  bool is_closing() const {
    return state_ == State::closing || transactions_.over() ||
           handshake_.state() == Handshake::State::failed;
  }
  bool may_quit() const;
  // The remote has said that it closes, and its verdict on a message is still waited for.
  bool is_dismissed() const { return !is_closing() && transactions_.dismissed(); }
  // Room for one more message. False for ever once the remote's MAILMAX is reached.
  bool can_begin() const;
  bool is_spent() const { return transactions_.is_spent(); }
  // BDAT was announced, and is not known there: the message may be tried by DATA on a new
  // connection, for what was sent as a chunk may have been read as commands.
  bool is_chunking_refused() const { return transactions_.is_chunking_refused(); }
  void never_chunk() { handshake_.never_chunk(); }  // before the answer to EHLO
  // Before both: what time it is by the wall clock.
  void set_time(TimePoint now) { transactions_.set_time(now); }
  // Requires can_begin(). converted: the content in 7 bits, when fitting() asked for it;
  // without it the content goes as it came, which binary content may not.
  void begin(Job job, std::shared_ptr<const std::string> converted);
  Compatibility fitting(const Job& job) const { return transactions_.fitting(job); }
  std::vector<JobEnd> take_ended() { return transactions_.take_ended(); }
  // Outcomes that stand while other recipients of their message are still waited for. They do not
  // come again with the end of the job.
  std::vector<JobEnd> take_settled() { return transactions_.take_settled(); }
  // Queues QUIT. Requires is_idle().
  void quit();
  bool is_quitting() const { return state_ == State::quitting; }

  // --- facts ---
  // What is waited for now; nothing while idle.
  std::optional<mail::Stage> stage() const;
  // Why a conversation that never became ready failed.
  const mail::Outcome& failure() const;
  const TlsDemand& tls_demand() const { return handshake_.tls_demand(); }
  const TlsAttempt& tls_attempt() const { return handshake_.tls_attempt(); }
  const TlsVerdict& tls_verdict() const { return handshake_.tls_verdict(); }
  bool is_tls_settled() const { return handshake_.tls_state() != nullptr; }  // the three are set
  // TLS was a wish, the handshake was good, and then the connection broke without a word.
  bool is_cut_off() const { return cut_off_; }
  // TLS was a wish, and the host has not shown yet that it can speak it: no reply since STARTTLS.
  bool is_tls_unsure() const { return !is_closing() && handshake_.is_tls_unsure(); }
  // Our user and password were not accepted: the mechanism and the reply are in failure().
  bool is_auth_refused() const { return handshake_.is_auth_refused(); }
  const std::string& auth_detail() const {
    return handshake_.auth_detail();
  }                                                              // SaslClient::refusal()
  const std::string& helo() const { return handshake_.helo(); }  // how the remote calls itself
  bool takes_no_mail() const {
    return handshake_.takes_no_mail();
  }  // RFC 7504: 521 in the greeting
  const Capabilities& capabilities() const { return handshake_.capabilities(); }
  const std::string& remote() const { return remote_; }
  std::uint32_t messages() const { return transactions_.messages(); }  // begun so far
  std::uint64_t replies() const { return replies_; }  // read so far: a sign of life

 private:
  enum class State : std::uint8_t { open, quitting, closing };

  bool is_at(Handshake::State state) const { return !is_closing() && handshake_.state() == state; }
  Result<void> on_reply(const mail::Reply& reply);
  bool waits_for_verdict() const;
  void take_unfinished();
  bool is_content_ahead() const;
  bool is_for_one_recipient(const mail::Reply& reply) const;
  Result<void> take(const mail::Reply& reply);
  mail::Stage trouble_stage() const;
  void close(mail::Outcome why);

  std::string remote_;
  State state_ = State::open;
  ClientWire wire_;
  Handshake handshake_;
  Transactions transactions_;
  mail::ReplyParser parser_;
  mail::Outcome failure_;
  std::optional<Command> answered_;  // last
  std::optional<mail::Stage> out_of_step_;
  bool may_quit_ = true;
  bool cut_off_ = false;
  std::uint64_t replies_ = 0;
};

}  // namespace postrider::delivery
