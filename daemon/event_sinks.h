// Events carried outwards: the outbox, which the queue's facts and the log fill, and the sinks of
// the configuration, a thread each. It keeps what is needed to tell how they are.
//
//   queue --facts--> witness() \                          / SinkRunner -> file
//                               > OutboxThread -> outbox <  SinkRunner -> socket
//   log ---lines---> EventLog  /                          \ SinkRunner -> webhook
//
// Without a sink there is no outbox, and nobody makes facts or events.
#pragma once

#include "events/event_log.h"
#include "events/outbox_thread.h"
#include "events/webhook_sink.h"

#include "daemon/config/config.h"
#include "daemon/sink_runner.h"
#include "queue/queue.h"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace postrider::daemon {

struct SinkStatus {
  std::string name;
  std::string place;          // "webhook https://example.org/hook"
  std::uint64_t waiting = 0;  // events of the outbox that it has not looked at
  SinkRunner::State state;
};

struct EventsStatus {
  bool is_on = false;
  events::OutboxThread::Counters outbox;
  std::uint64_t facts = 0;  // in the queue, not yet in the outbox
  std::vector<SinkStatus> sinks;
};

// Whether a file of events.secret holds keys. Reads it.
Result<void> check_webhook_secret(const std::string& path);

class EventSinks : public queue::Witness {
 public:
  // log: the daemon's own. Both outlive it. The sinks themselves log to `told`, so that their
  // losses are events too.
  struct Parts {
    const Clock& clock;
    Log& log;
    events::EventLog& told;
    std::string spool;
    std::string host;
    events::WebhookSink::Resolve resolve;
  };
  explicit EventSinks(Parts parts);
  ~EventSinks() override;

  // Reads secrets and certificates; the error names the key. What it gives is for adopt().
  struct Made {
    struct One {
      EventsConfig config;
      std::unique_ptr<events::Sink> sink;  // null: as it was
    };
    std::vector<One> sinks;
    events::OutboxLimits limits;
  };
  Result<Made> prepare(const Config& config) const;
  // Sinks that are gone or have changed end, new ones begin. On one thread.
  void adopt(Made made);
  void use(queue::Queue* queue) { queue_ = queue; }  // before the queue's thread starts
  void witness(std::vector<queue::Fact> facts) override;
  void stop();

  // Any thread; block.
  EventsStatus status() const;
  // Goes on behind the event with this id, or with all that is kept if it is empty.
  Result<void> replay(const std::string& sink, const std::string& id);
  // What is kept behind this position; "NAME NUMBER", or an id, or empty for all. last: only so
  // many of the newest.
  struct Kept {
    std::string position;  // for the next call
    std::vector<std::string> events;
    std::uint64_t lost = 0;
  };
  Result<Kept> kept(const std::string& after, std::size_t most) const;
  Result<std::string> position_before_last(std::uint64_t count) const;

 private:
  struct Running {
    EventsConfig config;
    std::unique_ptr<SinkRunner> runner;
  };
  Result<std::unique_ptr<events::Sink>> make_sink(const EventsConfig& config,
                                                  const Config& all) const;
  static void begin_stop(std::map<std::string, Running>& sinks,
                         const std::function<bool(const std::string& name)>& is_wanted);
  void start(EventsConfig config, std::unique_ptr<events::Sink> sink);
  void begin_outbox(events::OutboxLimits limits, std::vector<std::string> readers);
  std::string outbox_path() const { return folder_ + "/events.db"; }
  std::string position_path(const std::string& sink) const {
    return folder_ + "/" + sink + ".position";
  }

  const Parts parts_;
  const std::string folder_;
  queue::Queue* queue_ = nullptr;
  std::unique_ptr<events::OutboxThread> outbox_;
  std::atomic<events::OutboxThread*> open_{nullptr};  // outbox_, for other threads
  mutable std::mutex mutex_;                          // of running_
  std::map<std::string, Running> running_;
};

}  // namespace postrider::daemon
