// What the parts of the dispatcher share. All of it is used on the dispatcher's first loop alone.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "base/random.h"
#include "base/time.h"
#include "delivery/delivery_settings.h"
#include "delivery/delivery_timings.h"
#include "delivery/double_bounces.h"
#include "delivery/job/message_body.h"
#include "delivery/job/queue_port.h"

#include <memory>

namespace postrider::delivery {

struct DispatchContext {
  Loop& home;
  std::unique_ptr<QueuePort> queue;
  const Clock& clock;
  Log& log;
  std::shared_ptr<const DeliverySettings> settings;  // replaced by a reload
  std::weak_ptr<void> owner{};                       // of all parts
  std::shared_ptr<DoubleBounces> double_bounces = std::make_shared<DoubleBounces>();
  std::shared_ptr<DeliveryTimings> timings = std::make_shared<DeliveryTimings>();
  SystemRandom random{};
  bool is_draining = false;

  SteadyTime steady() const { return clock.steady(); }
  // The same for pure parts that count in a clock that does not go back.
  TimePoint pace_time() const {
    return TimePoint(std::chrono::duration_cast<Duration>(clock.steady().time_since_epoch()));
  }
  // Held by coroutines of the parts, which may end after the dispatcher.
  std::shared_ptr<void> alive() const { return owner.lock(); }
  OpenBody open_body() const {
    return [port = queue.get()](const mail::Message& message) { return port->open_body(message); };
  }
};

}  // namespace postrider::delivery
