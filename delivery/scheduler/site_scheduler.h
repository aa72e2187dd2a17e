// Decides for one site: how many connections, to which hosts, which job goes when, what comes back
// and for how long. Events go in, actions come out; no loop, no clock, no queue inside, so the same
// code is simulated over years of mail. Times are of one clock that does not go back. Pure.
//
//   working --no host answers--> blocked --its time--> probing --something is taken--> working
//                                   ^----- no answer -----'
#pragma once

#include "base/time.h"
#include "delivery/scheduler/host_book.h"
#include "delivery/scheduler/job_lanes.h"
#include "delivery/scheduler/limit_finder.h"
#include "delivery/scheduler/rate_finder.h"
#include "delivery/scheduler/reply_class.h"
#include "delivery/scheduler/retry_schedule.h"
#include "mail/outcome.h"

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::scheduler {

// What an operator knows better ([[site]]). Nothing is needed.
struct SiteRules {
  struct Source {
    std::string address;
    unsigned weight = 1;
  };
  unsigned most_connections = 50;  // of each source
  double most_rate = 0;            // messages a second of each source; 0: as the site takes them
  unsigned per_connection = 0;     // messages; 0: as it takes them
  std::optional<Family> family;
  std::vector<Source> sources;             // empty: one, the system's choice
  Duration idle{std::chrono::seconds(5)};  // an idle connection is closed after it
};

struct SiteAction {
  enum class Kind : std::uint8_t {
    open,      // a connection to `host` from `source`
    close,     // it is idle and not needed
    give,      // `job` to `connection`
    put_back,  // `job` is not tried before `until`, for `klass`
    bounce,    // `job` is refused for good
    hold,      // `job` goes back until the site opens: no time of its own
    block,     // the site takes nothing before `until`: lease nothing for it
    opened,    // it works again: what is held is released
    wake,      // call on_time() at `until`
  };
  Kind kind = Kind::wake;
  std::uint64_t connection = 0;
  std::uint64_t job = 0;
  unsigned source = 0;
  std::size_t host = 0;
  TimePoint until;
  ReplyClass klass = ReplyClass::busy;
  bool has_alarm = false;
};

// How an attempt ended, or how a connection was refused.
struct Seen {
  bool is_taken = false;
  mail::Stage stage = mail::Stage::connect;
  mail::Reply reply;  // code 0: none, it broke
  Duration latency{0};
};

class SiteScheduler {
 public:
  SiteScheduler(std::uint64_t site, SiteRules rules, const RetrySchedule& schedule);

  // Events. Each may bring actions.
  void on_hosts(const std::vector<RemoteHost>& hosts, TimePoint now);
  void on_job(SiteJob job, TimePoint now);
  void on_ready(std::uint64_t connection, TimePoint now);
  void on_failed(std::uint64_t connection, const Seen& seen, TimePoint now);  // never ready
  // Every job that was given comes back by one of these.
  void on_outcome(std::uint64_t connection, const Seen& seen, TimePoint now);
  void on_ended(std::uint64_t connection, TimePoint now);  // closed, by whomever
  void on_time(TimePoint now);

  std::vector<SiteAction> take_actions();

  // Restarts: a line of text, and the time since it was written.
  std::string store() const;
  bool restore(std::string_view stored, Duration idle);

  std::size_t waiting() const;
  unsigned connections(unsigned source) const { return sources_[source].open; }
  unsigned limit(unsigned source) const { return sources_[source].limit.limit(); }
  bool is_settled(unsigned source) const { return sources_[source].limit.is_settled(); }
  double rate(unsigned source) const { return sources_[source].rate.rate(); }
  bool is_blocked() const;
  // Which limit holds, and which observation set it; a line for each source.
  std::string explain(TimePoint now) const;

 private:
  struct Source {
    std::string address;
    unsigned weight = 1;
    LimitFinder limit;
    RateFinder rate;
    HostBook hosts;
    std::deque<SiteJob> front;  // refused for rate, or bound to this source
    bool was_front = false;     // the last one came from there
    unsigned open = 0, connecting = 0, busy = 0;
    std::vector<std::uint64_t> idle;
    bool is_blocked = false;
    bool is_suspended = false;  // by a reply: it is no use to probe
    TimePoint blocked_since, blocked_until;
    ReplyClass blocked_for = ReplyClass::network;
    std::deque<TimePoint> complaints;  // of rows that suspend after some
  };
  struct Connection {
    enum class Phase : std::uint8_t { connecting, idle, busy, leaving };
    Phase phase = Phase::connecting;
    unsigned source = 0;
    std::size_t host = 0;
    unsigned carried = 0;
    std::optional<SiteJob> job;
    TimePoint idle_since;
    bool is_spent = false;  // it is closed after what it does
  };

  void schedule(TimePoint now);
  bool give_one(unsigned source, TimePoint now);
  void give(std::uint64_t id, SiteJob job, TimePoint now);
  std::optional<SiteJob> next_job(unsigned source);
  bool has_work(unsigned source) const;
  bool may_open(unsigned source, TimePoint now) const;
  bool open_one(unsigned source, TimePoint now);
  void close_idle(TimePoint now);
  void close_connection(std::uint64_t id);
  void set_wake(TimePoint now);
  TimePoint next_event(unsigned source, TimePoint now) const;

  void on_taken(Connection& connection, const SiteJob& job, const Seen& seen, TimePoint now);
  void on_refusal(Connection& connection, SiteJob job, const Seen& seen, TimePoint now);
  void on_lost(Connection& connection, SiteJob job, const Seen& seen, TimePoint now);
  bool apply_to_source(Connection& connection, const ReplyMeaning& meaning, const Seen& seen,
                       const SiteJob& job, TimePoint now);
  void leave_ipv6(unsigned index, TimePoint now);
  void learn_spent(const Connection& connection);
  void defer(const SiteJob& job, const ReplyMeaning& meaning, const Seen& seen, TimePoint now);
  void refused_connection(unsigned source, std::size_t host, TimePoint now);
  Duration next_grey_delay() const;
  void suspend_if_due(unsigned source, const ReplyMeaning& meaning, TimePoint now);
  void block(unsigned source, ReplyClass why, Duration first, TimePoint now);
  void reopen(unsigned source, TimePoint now);
  void release_jobs(unsigned source);
  SiteAction& act(SiteAction::Kind kind);
  std::string explain_source(const Source& source, TimePoint now) const;

  std::uint64_t site_;
  SiteRules rules_;
  const RetrySchedule& schedule_;
  std::vector<Source> sources_;
  JobLanes lanes_;
  std::map<std::uint64_t, Connection> connections_;
  std::uint64_t next_connection_ = 0;
  std::vector<SiteAction> actions_;
  TimePoint wake_ = TimePoint::max();
  unsigned spent_at_ = 0, spent_seen_ = 0;  // messages a connection, as it was heard
  unsigned per_connection_ = 0;             // found; 0: none
  Duration grey_delay_{0};                  // the shortest that passed; 0: unknown
  Duration grey_early_{0};                  // the longest that did not
  unsigned hints_failed_ = 0;               // two: they are not obeyed
};

}  // namespace postrider::scheduler
