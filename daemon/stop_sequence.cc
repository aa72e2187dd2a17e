#include "daemon/stop_sequence.h"

#include "base/file.h"
#include "daemon/pickup/drop_file.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <sysexits.h>
#include <system_error>
#include <thread>

namespace postrider::daemon {

namespace {

// A stop in all; TimeoutStopSec= of the unit is above it.
constexpr Duration kWholeStop{10'000};
// What is kept of it for the queue and the threads to end.
constexpr Duration kReserve{2'000};
constexpr Duration kReceivingGrace{4'000};
constexpr Duration kHurriedGrace{500};
constexpr Duration kBeyondGrace{500};  // for the parts to notice that their grace has ended
constexpr Duration kThreadsEnd{1'000};

}  // namespace

StopSequence::StopSequence(Parts& parts, const Reloader& configuration, Events& events,
                           Notifier& notifier, Heartbeat& heartbeat)
    : parts_(parts),
      configuration_(configuration),
      events_(events),
      notifier_(notifier),
      heartbeat_(heartbeat),
      clock_(parts.foundation.clock()) {}

StopSequence::~StopSequence() {
  const std::lock_guard lock(limit_->mutex);
  limit_->unmaking = true;
}

int StopSequence::run() {
  const auto end = clock_.steady() + kWholeStop - kReserve;
  auto& log = parts_.foundation.log();
  auto& server = parts_.receiving->server();
  notifier_.stopping("finishing open transactions");
  log.write(LogEvent(Level::info, "stopping").add("sessions", server.counters().open));
  limit_time();
  parts_.status->stop();
  parts_.loops.first().post([this] {
    parts_.doors->stop();
    parts_.reports->stop();
  });
  const bool received = drain_receiving();
  const bool drained = drain_delivery(received, end);
  const auto next = [&](const char* stage) {
    if (drained)
      limit_->stage = stage;
  };
  next("queue");
  parts_.receiving->logins().save();
  parts_.limits->save();
  parts_.filters.save_greylist(configuration_.config(), log);
  parts_.foundation.queue().stop();
  next("event sinks");
  parts_.sinks->stop();
  parts_.foundation.trace().stop();
  next("threads");
  const bool ended = drained && end_loops();
  if (ended)
    report(true, parts_.foundation.queue().unrecorded(), what_remains());
  else
    report(false, 0, {});
  // A lookup that hangs would find what it uses gone, if it ever ended.
  if (!ended || server.counters().looking_up > 0)
    leave_at_once();
  return EX_OK;
}

bool StopSequence::drain_receiving() {
  parts_.receiving->server().drain(kReceivingGrace, [this] { events_.post(Event::stage_done); });
  if (!wait_for_stage(kReceivingGrace + kBeyondGrace))
    return false;
  limit_->stage = "delivery";
  return true;
}

// Whether both have ended. Delivery has little time if receiving has not.
bool StopSequence::drain_delivery(bool received, SteadyTime end) {
  parts_.sending->stop_logins();
  const auto left = std::chrono::duration_cast<Duration>(end - clock_.steady());
  const auto grace = received ? std::max(kHurriedGrace, left - kBeyondGrace) : kHurriedGrace;
  parts_.sending->dispatcher().drain([this] { events_.post(Event::stage_done); }, grace);
  return wait_for_stage(grace + kBeyondGrace) && received;
}

// Until the part that drains has reported. False: a second SIGTERM, or the part is too late.
bool StopSequence::wait_for_stage(Duration limit) {
  const auto end = clock_.steady() + limit;
  while (clock_.steady() < end) {
    Event event{};
    if (!events_.wait(Duration(500), event)) {
      heartbeat_.beat();
      continue;
    }
    if (event == Event::stage_done)
      return true;
    if (event == Event::stop)
      return false;
  }
  return false;
}

// Whatever hangs, in a part or in a thread that waits for the world: all that counts is in the
// queue, which any end leaves whole. Lives until the process ends.
void StopSequence::limit_time() {
  try {
    std::thread([this, limit = limit_] {
      std::this_thread::sleep_for(kWholeStop);
      const std::lock_guard lock(limit->mutex);
      if (limit->unmaking)
        std::_Exit(EX_OK);
      report(false, 0, {});
      leave_at_once();
    }).detach();
  } catch (const std::system_error& error) {  // no threads left: then the parts' own limits must do
    parts_.foundation.log().write(
        LogEvent(Level::warn, "stop_unlimited").add("error", error.what()));
  }
}

StopSequence::Remains StopSequence::what_remains() const {
  Remains remains;
  if (const auto totals = parts_.foundation.queue().totals()) {
    remains.queued = totals->messages;
    remains.under_way = totals->active;
  }
  const auto folder = open_file(configuration_.started().spool + "/drop", O_RDONLY | O_DIRECTORY);
  if (!folder)
    return remains;
  constexpr std::size_t kMostCounted = 100'000;
  if (const auto scan = scan_drop_folder(*folder, 0, kMostCounted, {}, {}, false))
    remains.dropped = scan->entries.size() + scan->taken.size();
  return remains;
}

// One line, by the thread that comes first.
void StopSequence::report(bool complete, std::size_t unrecorded, const Remains& remains) {
  if (limit_->is_reported.exchange(true))
    return;
  LogEvent event(Level::info, "stopped");
  event.add("complete", complete && unrecorded == 0 ? "yes" : "no");
  if (remains.queued)
    event.add("queued", std::to_string(*remains.queued))
        .add("under_way", std::to_string(remains.under_way));
  if (remains.dropped)
    event.add("drop_folder", std::to_string(*remains.dropped));
  if (unrecorded > 0)  // ends that could not be stored: these may be delivered a second time
    event.add("records", std::to_string(unrecorded));
  if (!complete)
    event.add("cut_off", limit_->stage.load())
        .add("sessions", std::to_string(parts_.receiving->server().counters().open));
  parts_.foundation.log().write(std::move(event));
}

// False if a loop still has work, which is a bug of the part that owns it.
bool StopSequence::end_loops() {
  parts_.loops.finish();
  for (std::size_t ended = 0; ended < parts_.loops.count(); ++ended)
    if (!wait_for_stage(kThreadsEnd)) {
      parts_.foundation.log().write(
          LogEvent(Level::warn, "bug").add("where", "stop").add("what", "a loop goes on"));
      return false;
    }
  parts_.loops.join();
  parts_.reports->save();
  return true;
}

// Without unmaking parts that connections on the loops still use. The queue is stopped, so
// nothing is lost.
void StopSequence::leave_at_once() {
  parts_.foundation.log().flush();
  std::_Exit(EX_OK);
}

}  // namespace postrider::daemon
