// Takes messages from a queue of an AMQP 0.9.1 broker, one at a time, and acknowledges each when it
// is settled. One that is refused is rejected without coming again: it goes where the queue's dead
// letters go.
#pragma once

#include "brokers/amqp_connection.h"
#include "brokers/consumer.h"
#include "brokers/program.h"

#include <memory>
#include <string>

namespace postrider::brokers {

class AmqpConsumer : public Consumer {
 public:
  // settings.topic: the queue. The clock outlives it.
  AmqpConsumer(PublisherSettings settings, const Clock& clock);
  Result<std::optional<BrokerRequest>> next(SteadyTime until) override;
  Result<void> settle(RequestEnd end, SteadyTime until) override;
  bool tend() override;  // heartbeats

 private:
  Result<void> connect(SteadyTime until);
  Result<void> read_content(SteadyTime until);
  Result<void> read_frame(amqp_frame_t& frame, SteadyTime until);
  Error given_up(const Error& error);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::unique_ptr<AmqpConnection> connection_;
  std::uint64_t tag_ = 0;  // of the request under way
  BrokerRequest request_;
};

}  // namespace postrider::brokers
