// Takes messages from a destination of a STOMP 1.2 broker, one at a time, and acknowledges each when
// it is settled. One that is refused is not acknowledged, so that it goes where dead letters go.
#pragma once

#include "brokers/consumer.h"
#include "brokers/program.h"
#include "brokers/stomp_connection.h"

#include <memory>
#include <string>

namespace postrider::brokers {

class StompConsumer : public Consumer {
 public:
  // settings.topic: the destination. The clock outlives it.
  StompConsumer(PublisherSettings settings, const Clock& clock);
  Result<std::optional<BrokerRequest>> next(SteadyTime until) override;
  Result<void> settle(RequestEnd end, SteadyTime until) override;
  bool tend() override;  // heart-beats

 private:
  Result<void> connect(SteadyTime until);
  Error given_up(const Error& error);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::unique_ptr<StompConnection> connection_;
  std::string acknowledgement_;  // what the broker calls the request under way
};

}  // namespace postrider::brokers
