// One connection at a time to one site, carrying jobs. Tries the hosts it was told in order, at
// most two of them as far as a conversation; a job that one host could not take is tried at the
// next. Lives on one loop; the dispatcher speaks to it and hears from it by posted messages.
#pragma once

#include "base/log.h"
#include "base/loop.h"
#include "base/signal.h"
#include "base/stream.h"
#include "delivery/body_sender.h"
#include "delivery/client.h"
#include "delivery/settings.h"

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::delivery {

// A host's address, in the order in which they are tried.
struct Candidate {
  asio::generic::stream_protocol::endpoint endpoint;
  std::string address;  // "192.0.2.1", or the path of a socket
  std::string remote;   // "mx1.example.org[192.0.2.1]:25"
};

class Courier;

struct CourierEvent {
  enum class Kind : std::uint8_t {
    ready,        // a conversation has begun: give it work
    ended,        // a job has ended
    unreachable,  // a candidate could not be talked to; others may follow
    gone,         // the last event; `returned` were not tried, or not by enough hosts
  };
  Kind kind = Kind::ended;
  std::shared_ptr<Courier> courier;
  JobEnd end;
  bool partial = false;        // of ended: the courier still has the rest of the job in hand
  std::string address;         // of ready and unreachable
  mail::Outcome failure;       // of unreachable and gone: why
  bool was_ready = false;      // of gone: some conversation had begun
  bool was_useful = false;     // of gone: and its last one had carried a message
  bool takes_no_mail = false;  // of gone: every candidate said 521
  std::vector<Job> returned;   // of gone
  std::uint32_t room = 0;      // jobs that it would take in all
};

struct CourierOrder {
  std::uint64_t site = 0;  // the dispatcher's handle
  std::vector<Candidate> candidates;
  Dialect dialect = Dialect::smtp;
  std::shared_ptr<const Settings> settings;
  OpenBody open_body;
  std::function<void(CourierEvent)> tell;  // on the courier's loop
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

  Loop& loop() { return loop_; }
  std::uint64_t site() const { return order_.site; }

 private:
  struct Session;
  struct Waiting {
    Job job;
    mail::Outcome why;  // of the host that failed it, if tries > 0
  };
  Task<void> run(std::shared_ptr<Courier> self);
  Task<void> try_candidate(const Candidate& candidate);
  Task<Result<void>> reach(Stream& stream, const Candidate& candidate);
  Task<void> converse(Session& session);
  Task<void> write_loop(std::shared_ptr<Courier> self, Session& session);
  void read_what_came(Session& session);
  void pump(Session& session);
  void begin(Session& session, Waiting waiting);
  void collect(Session& session);
  void arm(Session& session);
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
  bool was_useful_ = false;
  bool closing_ = false;
  bool aborted_ = false;
  bool gone_ = false;
};

}  // namespace postrider::delivery
