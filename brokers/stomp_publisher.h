// STOMP 1.2: each event is a persistent message, for which the broker sends a receipt when it has
// it. By frames of our own: no client library is packaged.
#pragma once

#include "brokers/program.h"
#include "brokers/stomp_connection.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postrider::brokers {

class StompPublisher : public Publisher {
 public:
  StompPublisher(PublisherSettings settings, const Clock& clock);  // clock outlives it
  Result<void> publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) override;
  void tend() override;  // heart-beats; an idle connection would be ended for want of them

 private:
  Result<void> connect(SteadyTime until);
  Result<void> send(const Wave& wave, SteadyTime until);
  Result<void> collect(std::size_t count, SteadyTime until, std::vector<bool>& taken);
  Result<void> take_receipt(const StompFrame& frame, std::vector<bool>& taken);
  Error given_up(const Error& error);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::unique_ptr<StompConnection> connection_;
  std::uint64_t next_ = 0;   // the number of the next receipt of this connection
  std::uint64_t first_ = 0;  // of the wave under way
};

}  // namespace postrider::brokers
