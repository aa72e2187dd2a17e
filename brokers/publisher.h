// A client of a message broker, as the programs that carry events to brokers use it. Blocking; of
// one thread.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <string>
#include <vector>

namespace postrider::brokers {

// One event on its way.
struct Message {
  std::string id;       // the same when it comes again
  std::string subject;  // what it is about: events of one subject stay in their order
  std::string type;     // "delivered"
  std::string text;     // CloudEvents 1.0 in JSON
};
using Wave = std::vector<const Message*>;

class Publisher {
 public:
  virtual ~Publisher() = default;
  // Gives the broker all of them and waits until it has said that they are safe, but not for long
  // beyond `until`. taken[i] becomes true for each that it has, after an error too; what it may or
  // may not have comes again. Errc::refused: asking at once again would not help.
  virtual Result<void> publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) = 0;
  // About once a second while there is nothing to publish.
  virtual void tend() {}
};

}  // namespace postrider::brokers
