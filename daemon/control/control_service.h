// What an administrator may ask and change, independent of how the request came: the control
// socket of a running daemon and the tools that open the queue themselves
// (daemon/control/offline.h) share this code. A request becomes a job; each step of a job gives
// some lines of the answer, so that a listing of a million messages is made page by page, as fast
// as its reader takes them.
#pragma once

#include "base/time.h"
#include "daemon/pickup/drop_listing.h"
#include "daemon/protocol/control_protocol.h"
#include "queue/queue.h"

#include <boost/json/object.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

// One step of an explanation: "route", "smtp://relay.example.net:587 (rule 2 of the
// configuration)".
struct ExplainedFact {
  std::string what;
  std::string text;
};

// What became of a reload.
struct ReloadVerdict {
  std::vector<std::string>
      problems;                    // why the old configuration stays; none: the new one is in use
  std::vector<std::string> notes;  // what else is to be known of the new one
};

// Reports of each day to other domains.
enum class ReportKind : std::uint8_t { tls, dmarc };

// What only the running parts know. Implemented by composition; called on a thread of the pool for
// blocking work, so an implementation may post to a loop and wait for the answer.
class StatusSource {
 public:
  virtual ~StatusSource() = default;
  // What would happen to mail for this address now: receiving (unless it is queued already), route,
  // hosts, TLS policy, state of the site.
  virtual std::vector<ExplainedFact> explain(const std::string& address, bool is_queued) = 0;
  // What mail for each of these addresses, or hosts to which it was rerouted, waits for now that is
  // in delivery's hands, one sentence or nothing for each.
  virtual std::vector<std::string> reasons(const std::vector<std::string>& addresses) {
    return std::vector<std::string>(addresses.size());
  }
  // Whether a recipient that is in delivery's hands is under way, rather than waiting there; then
  // what it waits for, or nothing if that is not known.
  struct InHand {
    bool is_under_way = true;
    std::string waits_for;
  };
  virtual InHand in_hand(mail::MessageId id, std::uint32_t recipient, const std::string& to) {
    (void)id;
    (void)recipient;
    (void)to;
    return {};
  }
  // Facts for `postrider status` beyond the queue's: "listeners": [...], "connections": n,
  // "hostname", whatever composition knows. Strings, numbers and arrays of them are shown as such.
  virtual boost::json::object status() = 0;
  // `postrider sites`: each that delivery knows, by name.
  virtual std::vector<boost::json::object> sites() { return {}; }
  // `postrider tlsrpt`, `postrider dmarc-reports`: what is collected; or sends reports now, today's
  // results too if so asked.
  virtual std::vector<ExplainedFact> reports(ReportKind kind, bool send, bool today_too) = 0;
  // `postrider reload`: asks for one, and gives its number; then waits a little for the verdict.
  virtual std::uint64_t ask_for_reload() = 0;
  virtual std::optional<ReloadVerdict> reload_verdict(std::uint64_t number) = 0;
  // `postrider events`: those behind a position or an id, or the newest `last`; a page at a time.
  struct EventPage {
    std::string position;             // of the next page
    std::vector<std::string> events;  // as JSON
    std::uint64_t lost = 0;           // before these
  };
  virtual Result<EventPage> events(const std::string& after, std::uint64_t last) {
    (void)after;
    (void)last;
    return Error(Errc::unsupported, "read events");
  }
  // `postrider events replay`: the sink gets again what came behind this event, itself included.
  virtual Result<void> replay_events(const std::string& sink, const std::string& id) {
    (void)sink;
    (void)id;
    return Error(Errc::unsupported, "replay events");
  }
  // `postrider trace`: whether anything is remembered; brings what waits in memory to the disk, in a
  // moment; and a reader has seen that the file is damaged.
  virtual bool keeps_trace() { return true; }
  virtual void settle_trace() {}
  virtual void suspect_trace() {}
  // `postrider queue retry` was stored: sites that this concerns may be tried at once.
  virtual void retried(const queue::Filter& filter) = 0;
};

class ControlJob {
 public:
  virtual ~ControlJob() = default;
  // Appends whole lines to `out`; may block. False: the answer is complete, its end included.
  virtual bool step(std::string& out) = 0;
  // Whether it may go on for long: such jobs never keep the others waiting.
  virtual bool is_long() const { return false; }
  // Whether it only reads, and gives nothing before it has read all: then it may be ended when it
  // takes too long.
  virtual bool may_be_cut_off() const { return false; }
  // Whether it only says that the request is not for who made it.
  virtual bool is_forbidden() const { return false; }
};

// Who asks: may do everything, or belongs to the group of control.readers.
enum class Asker : std::uint8_t { administrator, reader };

// What a request does, and so who may make it.
enum class ControlRight : std::uint8_t {
  read,     // gives facts about mail and the daemon, never content or a secret: readers too
  content,  // shows content of mail: administrators alone
  change,   // changes something or makes the daemon act: administrators alone
};
// One thing that may be asked. Without a row there is no such request.
struct ControlAct {
  std::string_view act;
  std::string_view verb;  // "": without one; "*": whatever it is, the job judges it
  ControlRight right;
  bool takes_any_verb() const { return verb == "*"; }
};
std::vector<ControlAct> control_acts();

// Thread-safe. The queue, the clock and the insight outlive it.
class ControlService {
 public:
  // insight: null when the daemon does not run.
  // drop: mail that is not in the queue yet is listed with it. Beside it is the trace.
  ControlService(queue::Queue& queue, const Clock& clock, StatusSource* insight,
                 DropPlace drop = {});
  // A malformed request becomes a job that says so. `line` comes without its end.
  // uid: of who asks. What `asker` may not do becomes a job that says so, with EX_NOPERM. An answer
  // to a reader, or to a request as_reader, shows what readers are shown (reader_view.h).
  std::unique_ptr<ControlJob> start(std::string_view line, unsigned uid,
                                    Asker asker = Asker::administrator);
  std::unique_ptr<ControlJob> start(ControlRequest request, unsigned uid,
                                    Asker asker = Asker::administrator);

 private:
  std::unique_ptr<ControlJob> job_for(const ControlRequest& request, unsigned uid, Asker asker);

  queue::Queue& queue_;
  const Clock& clock_;
  StatusSource* insight_;
  const DropPlace drop_;
  TimePoint started_;
};

}  // namespace postrider::daemon
