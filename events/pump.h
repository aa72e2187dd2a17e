// Brings events from the outbox to one sink: a page at a time, in order, and not the next one
// before this one has been taken. Each sink has a pump and a thread of its own, so none waits for
// another. The position is saved when all has been taken, and four times a second while there is more,
// for each time costs a few syncs: what comes again after a crash has the same ids.
#pragma once

#include "events/event_filter.h"
#include "events/event_view.h"
#include "events/outbox.h"

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace postrider::events {

class Sink {
 public:
  virtual ~Sink() = default;
  // All of them, in this order, or an error; then the same come again. `id` names the batch, and is
  // the same when the same comes again. May block.
  virtual Result<void> deliver(const std::string& id, const std::vector<std::string>& events) = 0;
  // What was delivered since the last time is on stable storage, as far as that is the sink's own; after
  // an error all of it comes again. Called before a position is saved.
  virtual Result<void> sync() { return {}; }
  // Any thread: what blocks fails soon, and so does all that comes later.
  virtual void stop() {}
};

struct PumpSettings {
  std::string name;      // of the sink, for the log
  std::string outbox;    // path of events.db
  std::string position;  // path of the position file
  Filter filter;
  View view = {};
  std::size_t most = 100;                // events in a batch
  std::size_t most_bytes = 512U << 10U;  // of a batch, but for its first event
  // The outbox is damaged where it was read; its writer may not see that.
  std::function<void()> on_damage = {};
};

class Pump {
 public:
  enum class Step : std::uint8_t {
    moved,   // there may be more at once
    idle,    // nothing new
    failed,  // the sink, or the outbox: try again later
  };
  struct Counters {
    std::uint64_t taken = 0;   // by the sink
    std::uint64_t passed = 0;  // not wanted
    std::uint64_t broken = 0;  // could not be read, and were left out
    std::uint64_t lost = 0;    // gone from the outbox before they were read
    std::uint64_t failures = 0;
  };

  // All three outlive it.
  Pump(PumpSettings settings, Sink& sink, const Clock& clock, Log& log);
  Step step();
  const Counters& counters() const { return counters_; }
  const std::optional<Position>& position() const { return position_; }  // none: not read yet
  const std::string& error() const { return error_; }  // of the latest step; empty: it went well
  bool has_more() const { return has_more_; }          // behind what was moved last
  void settle();                                       // saves what is not saved yet, at the end
  // Goes on from there. Saved with what is taken next.
  void go_to(Position position);

 private:
  Result<OutboxReader::Page> read();
  std::vector<std::string> wanted(const OutboxReader::Page& page);
  void pass_over_lost(const OutboxReader::Page& page);
  Step failed(const Error& error);
  Result<void> save();

  PumpSettings settings_;
  Sink& sink_;
  const Clock& clock_;
  Log& log_;
  std::optional<OutboxReader> reader_;
  std::optional<Position> position_;
  Counters counters_;
  std::string error_;
  bool is_failing_ = false;
  bool has_more_ = false;
  std::optional<Position> unsaved_;  // before what was taken and is not saved yet
  SteadyTime next_save_{};
};

}  // namespace postrider::events
