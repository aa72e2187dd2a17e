// One connection at a time to one site, carrying jobs. Tries the hosts it was told in order, at
// most two of them as far as a conversation; a job that one host could not take is tried at the
// next. Lives on one loop; the dispatcher speaks to it and hears from it by posted messages.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "base/net/signal.h"
#include "base/net/tls/stream.h"
#include "base/network.h"
#include "delivery/auth/credential_source.h"
#include "delivery/job/memory_budget.h"
#include "delivery/job/message_body.h"
#include "delivery/routing/host_address.h"
#include "delivery/smtp/client.h"
#include "delivery/smtp/smtp_settings.h"
#include "delivery/smtp/tls_sessions.h"

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::delivery {

class Courier;

enum class LoginTrouble : std::uint8_t {
  none,
  refused,   // our credentials were not accepted
  no_token,  // there was no access token to be had
};

struct CourierEvent {
  enum class Kind : std::uint8_t {
    ready,        // a conversation has begun: give it work
    ended,        // a job has ended
    unreachable,  // a candidate could not be talked to; others may follow
    stays,        // was to give way, and has heard something since
    waits_aside,  // was to give way, and stays for the reply, though its host is silent
    gone,         // the last event; `returned` were not tried, or not by enough hosts
  };
  Kind kind = Kind::ended;
  std::shared_ptr<Courier> courier;
  JobEnd end;
  bool partial = false;     // of ended: the courier still has the rest of the job in hand
  std::string address;      // of ready, unreachable and waits_aside
  bool is_crowded = false;  // of gone: no address that it tried had room for one more
  mail::Outcome failure;    // of unreachable and gone: why
  bool is_at_command =
      false;                // of waits_aside: its site waits, and the silence is before the content
  bool was_ready = false;   // of gone: some conversation had begun
  bool was_useful = false;  // of gone: and its last one had carried a message
  bool takes_no_mail = false;               // of gone: every candidate said 521
  LoginTrouble login = LoginTrouble::none;  // of gone
  std::string login_detail;                 // of gone: what the host said of a token; may be empty
  std::vector<Job> returned;                // of gone
  std::uint32_t room = 0;                   // jobs that it would take in all
};

struct CourierOrder {
  std::uint64_t site = 0;  // the dispatcher's handle
  std::vector<HostAddress> candidates;
  std::optional<AddressSlot::Hold> hold;  // a place at the first one
  unsigned conversations = 2;             // of hosts, for one attempt, as RFC 5321 §5.1 suggests
  Dialect dialect = Dialect::smtp;
  std::string hostname;            // said in EHLO
  std::vector<IpAddress> sources;  // of this machine, to connect from; empty: any
  std::shared_ptr<const SmtpSettings> settings;
  OpenBody open_body;
  std::function<void(CourierEvent)> tell;     // on the courier's loop
  std::shared_ptr<CredentialSource> secrets;  // null: no AUTH
  std::shared_ptr<TlsSessions> sessions;      // of the courier's loop
  TlsObserver observer;                       // may be empty
  std::string domain;                         // of the first recipient, for reports
  std::shared_ptr<const StsPolicy> sts;       // its policy, for reports
  BlockingPool* pool = nullptr;               // for what takes long
  std::shared_ptr<MemoryBudget> conversions;
  const Clock* clock = nullptr;
  Log* log = nullptr;
};

class Courier : public std::enable_shared_from_this<Courier> {
 public:
  Courier(Loop& loop, CourierOrder order);
  ~Courier();

  // All on the courier's loop.
  void start();
  void take(Job job);
  void close();  // after what it has in hand, politely
  void abort();  // at once
  // Others wait for a connection: a host that has not answered yet may be silent for so long, and one
  // that has, but carried no message, for two minutes. But for the silence behind a message: a
  // shorter wait there makes duplicates.
  void hurry(Duration most);
  // Others wait for a connection: if its host has been silent for that long in the middle of a
  // message, ends this one at once if told so, or says that it waits aside. Says also if it stays.
  void give_way(Duration silence, bool ends);
  // Others of its site wait: if its host has been silent for that long, before it has greeted or
  // behind a command or the content, says that it waits aside; where the site may have no further
  // connection, only behind the content. There it leaves its place at the address, and ends behind
  // the reply if there is none left.
  void stand_aside(Duration silence, bool only_behind_content);

  Loop& loop() { return loop_; }
  std::uint64_t site() const { return order_.site; }

 private:
  struct Session;
  struct Waiting {
    Job job;
    mail::Outcome why;                               // of the host that failed it, if tries > 0
    std::shared_ptr<const std::string> converted{};  // for hosts that need it so
    bool has_no_other_form = false;                  // goes there as it came
  };
  Task<void> run(std::shared_ptr<Courier> self);
  // What a visit to a host leaves to do.
  enum class Next : std::uint8_t { delivered_all, next_host, same_host_again, stop };
  Task<void> visit_candidates();
  Task<Next> visit(const HostAddress& candidate);
  Task<Next> try_candidate(const HostAddress& candidate);
  AddressSlot::Hold take_hold();
  void come_back();
  Result<void> leave_from(Socket& socket, const HostAddress& candidate) const;
  Task<Result<void>> reach(Stream& stream, const HostAddress& candidate);
  Task<void> converse(std::shared_ptr<Session> session);
  // Makes 7 bits of a message off the loop, when there is memory for it, and puts it back in front.
  void begin_converting(Waiting waiting, std::string remote);
  Task<void> convert(std::shared_ptr<Courier> self, std::shared_ptr<Waiting> waiting,
                     std::string remote);
  Task<Result<std::shared_ptr<const std::string>>> make_seven_bit(
      std::shared_ptr<const mail::Message> message);
  Task<Result<void>> wait_for_memory(std::uint64_t octets);
  // courier_security.cc
  Task<bool> get_credentials(const HostAddress& candidate);
  Security security_for(const HostAddress& candidate) const;
  Task<void> shake_hands(Session& session);
  Task<void> take_sasl_step(Session& session);
  void note_tls(Session& session);
  void report_tls(Session& session, const TlsVerdict& verdict);
  std::optional<TlsAttempt> broken_tls(const Session& session);
  void note_clear(const Session& session);
  void note_trouble(const Session& session);
  bool tries_again(const Session& session);
  Task<void> write_loop(std::shared_ptr<Courier> self, std::shared_ptr<Session> session);
  Task<void> write_all(Session& session);
  static void end_session(Session& session);
  void read_what_came(Session& session);
  void pump(Session& session);
  void begin(Session& session, Waiting waiting);
  void collect(Session& session);
  void arm(Session& session);
  Duration patience(const Session& session, mail::Stage stage) const;
  void keep_unsettled(Session& session, JobEnd& ended);
  void end_with(Job job, const mail::Outcome& outcome);
  std::uint32_t room() const;
  void tell(CourierEvent event);
  void finish();

  Loop& loop_;
  CourierOrder order_;
  Session* session_ = nullptr;  // while there is a connection
  std::deque<Waiting> jobs_;    // not begun on this connection
  mail::Outcome failure_;
  unsigned sessions_ = 0;
  unsigned refusals_ = 0;  // 521
  bool was_ready_ = false;
  bool retry_same_ = false;
  bool never_chunks_ = false;  // the host announces BDAT and does not know it
  bool is_converting_ = false;
  Signal converted_;
  std::shared_ptr<const Credentials> credentials_;
  bool renewed_ = false;              // a refused token: which is done once
  std::optional<TlsAttempt> broken_;  // of the candidate: the next connection is in clear
  LoginTrouble login_ = LoginTrouble::none;
  std::string login_detail_;
  bool was_useful_ = false;
  bool was_tried_ = false;  // some candidate
  bool is_crowded_ = false;
  std::optional<AddressSlot::Hold> hold_;  // at the address of the connection
  std::shared_ptr<AddressSlot> left_;      // where it left its place
  std::optional<Duration> hurried_;
  bool closing_ = false;
  bool aborted_ = false;
  bool gone_ = false;
};

}  // namespace postrider::delivery
