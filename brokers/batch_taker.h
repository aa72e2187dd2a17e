// Brings a batch of events to a broker. Events about one subject are given to it one behind the
// other, each when the one before it is safe; so they arrive in their order, whatever fails between
// them. What the broker has of a batch that failed is not given to it again with the next attempt.
#pragma once

#include "brokers/publisher.h"

#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace postrider::brokers {

// Lines of JSON, each an event. Errc::malformed.
Result<std::vector<Message>> messages_of(std::string_view batch);
// The first event of each subject, then the second of each, and so on. They refer to `messages`.
std::vector<Wave> waves_of(const std::vector<Message>& messages);

class BatchTaker {
 public:
  using Sleep = std::function<void(Duration)>;
  // Publisher and clock outlive it. limit: for one batch, with all attempts.
  BatchTaker(Publisher& publisher, const Clock& clock, Duration limit, Sleep sleep);
  // All of them are safe with the broker, or an error; then the same are to come again.
  Result<void> take(std::string_view batch);

 private:
  Result<void> publish(Wave wave, SteadyTime until);

  Publisher& publisher_;
  const Clock& clock_;
  const Duration limit_;
  const Sleep sleep_;
  std::unordered_set<std::string> taken_;  // ids, since a batch was taken as a whole
};

}  // namespace postrider::brokers
