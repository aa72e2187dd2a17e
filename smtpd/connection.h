// One client, from its first byte to its last: drives a SessionFramer over a Stream, with
// deadlines and a borrowed buffer. Owns its stream and conversation; keeps its LoopConnections
// alive. What has a subject of its own has an owner: ClientSlots, HeldMemory and
// TlsMemory the client's shares, ClientNaming its name, ReadingPace its deadlines, SessionFilters
// what filters see, MessageIntake the way of its messages into the queue.
#pragma once

#include "base/net/tls/stream.h"
#include "smtpd/auth/sasl_exchange.h"
#include "smtpd/client_naming.h"
#include "smtpd/client_slots.h"
#include "smtpd/held_memory.h"
#include "smtpd/loop_connections.h"
#include "smtpd/message_intake.h"
#include "smtpd/reading_pace.h"
#include "smtpd/receiving_log.h"
#include "smtpd/server_settings.h"
#include "smtpd/session/session_framer.h"
#include "smtpd/session_filters.h"
#include "smtpd/side_jobs.h"
#include "smtpd/tls_memory.h"

#include <memory>
#include <optional>
#include <string>

namespace postrider::smtpd {

struct Arrival {
  IpAddress address;  // of the peer: the client, or the proxy in front of it
  std::uint16_t port = 0;
  Role role = Role::mx;
  bool proxied = false;
  std::optional<std::uint32_t> local_user;  // of smtpd/local_sender.h
  TlsStart tls_start = TlsStart::never;
  std::shared_ptr<const TlsContext> tls;        // null: never
  std::shared_ptr<const std::string> listener;  // its address, as configured
  std::shared_ptr<const std::string> next_hop;  // where its mail goes first
};

class Connection final : private Observer {
 public:
  // Holds one of SessionLimits::take(); gives it back at its end.
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

  Task<void> live();
  bool take_slots();
  void begin_session(const std::string& session_id);
  Task<void> hold_greeting();
  bool talks_early();
  Task<void> converse();
  Task<Result<void>> read_more();
  Task<Result<void>> send_replies();
  // What the session needs before it takes the next octets; each says what it needs then.
  Task<SessionFramer::Need> store();
  Task<SessionFramer::Need> look_up();
  Task<SessionFramer::Need> ask_filters();
  Task<SessionFramer::Need> authenticate();
  Task<bool> shake_hands();
  SessionFramer::Need take();

  void keep_content();
  std::size_t octets_in_memory();
  bool must_end_for_memory() const;
  void let_go();
  void give_way();
  void lay_buffer_aside();
  void take_buffer();
  void refresh_conditions();
  const Client& client() const { return talk_ ? talk_->session().facts().client : client_; }
  bool is_patient() const { return client().trusted || !reception_->is_stressed(); }
  void give_up_waiting();
  void note_end(const Error& error);
  void note_hang_up();
  void say(std::string_view reply);
  Log& log() { return reception_->log_about(Policy::may_relay(client())); }
  // From the session.
  void refused(const Refusal& refusal) override;
  void authenticated(const AuthEnd& end) override;

  // What end_if_idle() and give_up() may do to it.
  enum class Waiting : std::uint8_t {
    no,
    idle,    // for the next command, with nothing begun
    storing  // for the queue: the reply is on its way, and worth waiting for
  };
  struct Links {
    Connection* previous = nullptr;
    Connection* next = nullptr;
  };

  std::shared_ptr<LoopConnections> reception_;
  std::shared_ptr<const ServerSettings> settings_;
  std::shared_ptr<const Policy> policy_;
  Stream stream_;
  Arrival arrival_;
  Client client_;  // as it was before the session
  ClientSlots slots_;
  HeldMemory memory_;
  TlsMemory tls_memory_;
  SideJobs jobs_;
  ClientNaming naming_;
  ReadingPace pace_;
  std::optional<SessionFramer> talk_;
  std::unique_ptr<SessionFilters> filters_;  // null: there are none
  std::optional<MessageIntake> intake_;
  BufferPool::Lease buffer_;
  std::size_t unread_ = 0;  // octets of replies that wait for their reader, and the buffer
  std::unique_ptr<auth::Exchange> exchange_;  // while AUTH is under way
  Waiting waiting_ = Waiting::no;
  maillog::Summary summary_;
  Links links_;
};

}  // namespace postrider::smtpd
