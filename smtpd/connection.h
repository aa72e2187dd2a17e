// One client, from its first byte to its last: drives a SessionFramer over a Stream, with
// deadlines, a borrowed buffer and the queue. Owns its stream and conversation; keeps its
// LoopConnections alive.
#pragma once

#include "base/net/tls/stream.h"
#include "smtpd/auth/sasl_exchange.h"
#include "smtpd/incoming_body.h"
#include "smtpd/loop_connections.h"
#include "smtpd/receiving_log.h"
#include "smtpd/server_settings.h"
#include "smtpd/session/session_framer.h"

#include <atomic>
#include <memory>
#include <string>

namespace postrider::smtpd {

namespace filter {
struct Ending;
}

struct Arrival {
  IpAddress address;  // of the peer: the client, or the proxy in front of it
  std::uint16_t port = 0;
  Role role = Role::mx;
  bool proxied = false;
  std::optional<std::uint32_t> local_user;  // of smtpd/local_sender.h
  TlsStart tls_start = TlsStart::never;
  std::shared_ptr<const TlsContext> tls;        // null: never
  std::shared_ptr<const std::string> listener;  // its address, as configured
};

class Connection final : private Observer, private SessionLimits::Keeper {
 public:
  // Holds one of Slots::take(); gives it back at its end.
  Connection(std::shared_ptr<LoopConnections> reception, Socket socket, const Arrival& arrival);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // The whole life. A free-standing coroutine that owns the connection.
  static Task<void> serve(std::unique_ptr<Connection> connection);

  // From LoopConnections, between two waits of this connection.
  void end_if_idle();  // stopping
  void hurry();        // stress: a stranger's wait for a command becomes short
  void give_up();      // the grace has ended: a last word, then no more
  void close();

 private:
  friend class LoopConnections;

  // From SessionLimits, on any thread.
  bool can_let_go() const override { return waits_for_client_.load(std::memory_order_relaxed); }
  void let_go() override;
  void let_go_here();

  Task<void> live();
  void give_up_waiting();
  Task<bool> read_proxy_header();
  bool take_address_slot();
  bool take_user_slot();
  bool take_strangers_slot();
  bool note_held();
  bool count_held(std::size_t octets);
  SessionLimits::Party party() const;
  void keep_content();
  bool must_end_for_memory() const;
  void lay_buffer_aside();
  void take_buffer();
  Task<void> hold_greeting();
  bool talks_early();
  bool is_stranger() const;
  Task<void> converse();
  SessionFramer::Need take();
  Task<Result<void>> read_more();
  Task<Result<void>> send_replies();
  Task<SessionFramer::Need> store();
  Task<SessionFramer::Need> look_up();
  // connection_filter.cc
  void ask_for_name();
  Task<void> await_name();
  void name_client(const ClientName& name);
  void prepare_filters();
  void refresh_facts();
  Task<bool> run_aside(std::string key, std::function<void()> job);
  Task<SessionFramer::Need> ask_filters();
  Task<void> show_content(SessionFramer::Need need);
  Task<void> show_header(std::string& bytes);
  Task<bool> end_filters(filter::Ending& ending, filter::Verdict& verdict);
  bool has_client_left();
  Task<SessionFramer::Need> authenticate();  // connection_auth.cc
  Task<bool> shake_hands();                  // connection_tls.cc
  void allow_auth_in_clear();
  Task<void> linger();
  void keep_large_content();
  Task<void> rewrite_header();
  void excuse_since(SteadyTime began);
  IncomingBody& body_of_message();
  Storage storage_trouble(IncomingContent& intake, const Error& error);
  Task<SessionFramer::Need> keep(IncomingContent& intake, IncomingBody& body);
  Task<SessionFramer::Need> filter_and_keep(IncomingContent& intake, IncomingBody& body);
  // Of what filters said: fields above our own, and why the message is held.
  struct Added {
    std::string on_top, hold;
  };
  Task<SessionFramer::Need> hand_over(IncomingContent& intake, mail::MessageId id,
                                      FinishedBody& body, const Added& added);
  std::string missing_fields(mail::MessageId id);
  std::shared_ptr<const mail::Message> compose_message(IncomingContent& intake, mail::MessageId id,
                                                       FinishedBody& body,
                                                       const std::string& on_top);
  void refresh_conditions();
  Duration patience();
  bool is_patient() const;
  void note_hang_up();
  void end_with(const Error& error);
  void say(std::string_view reply);
  void refused(const Refusal& refusal) override;
  void authenticated(const AuthEnd& end) override;
  Log& log();  // of what comes with every connection or refusal
  const Timeouts& timeouts() const { return settings_->timeouts; }

  std::shared_ptr<LoopConnections> reception_;
  std::shared_ptr<const ServerSettings> settings_;
  std::shared_ptr<const Policy> policy_;
  Stream stream_;
  Arrival arrival_;
  Client client_;
  bool has_address_slot_ = false;
  std::optional<std::uint64_t> user_slot_;  // of this user of the machine
  bool is_nobody_ = false;        // a proxy does not know, or speaks for itself: never one of ours
  bool is_storing_ = false;       // the reply is on its way, and worth waiting for
  std::size_t unread_ = 0;        // octets of replies that wait for their reader, and the buffer
  std::size_t held_ = 0;          // octets in memory, as SessionLimits::keep() counts them
  SessionLimits::Party held_by_;  // whose share they are part of
  bool has_logged_in_ = false;
  const std::size_t first_octets_;
  bool is_over_share_ = false;
  bool must_let_go_ = false;  // of what is beyond the first octets
  std::atomic<bool> waits_for_client_{false};
  std::shared_ptr<Connection*> self_;  // for who is to come back to this loop first
  bool waiting_idle_ = false;
  bool has_given_up_ = false;
  bool is_left_ = false;                   // by its client, before the reply to a message
  std::shared_ptr<Lookups::Wait> lookup_;  // while an address is looked up
  // While the client's name is asked for.
  std::shared_ptr<filter::Questioner::RunOf<ClientName>> name_run_;
  std::optional<SessionFramer> talk_;
  BufferPool::Lease buffer_;
  std::size_t in_turn_ = 0;              // octets that were read without a wait
  std::uint64_t commands_seen_ = ~0ULL;  // when the deadline was last set
  SteadyTime began_;
  SteadyTime content_began_;
  std::uint64_t content_read_ = 0;
  IncomingBody body_;                         // of the message at hand
  std::unique_ptr<auth::Exchange> exchange_;  // while AUTH is under way
  struct Filtering;
  std::unique_ptr<Filtering> filtering_;  // null: no filters
  maillog::Summary summary_;
  Connection* previous_ = nullptr;
  Connection* next_ = nullptr;
};

}  // namespace postrider::smtpd
