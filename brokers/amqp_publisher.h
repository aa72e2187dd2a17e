// AMQP 0.9.1, as RabbitMQ speaks it: each event is a persistent message that the broker confirms.
// One that no queue would get is an error, and comes again. By rabbitmq-c.
#pragma once

#include "brokers/amqp_connection.h"
#include "brokers/program.h"

#include <amqp.h>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postrider::brokers {

class AmqpPublisher : public Publisher {
 public:
  AmqpPublisher(PublisherSettings settings, const Clock& clock);  // clock outlives it
  Result<void> publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) override;
  void tend() override;  // heartbeats; an idle connection would be ended for want of them

 private:
  // What is known of a wave that was sent.
  struct Confirms {
    std::uint64_t first = 0;  // the broker's number of its first message
    std::vector<bool> answered, returned;
    std::size_t open = 0;
    std::string trouble;  // why a message was not taken
  };

  Result<void> connect(SteadyTime until);
  Result<void> send(const Message& message);
  Result<void> collect(const Wave& wave, SteadyTime until, std::vector<bool>& taken);
  Result<void> handle(const amqp_method_t& method, const Wave& wave, Confirms& confirms,
                      std::vector<bool>& taken);
  Result<void> take_returned(const amqp_method_t& method, const Wave& wave, Confirms& confirms);
  Error given_up(const Error& error);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::unique_ptr<AmqpConnection> connection_;
  std::uint64_t next_ = 1;  // the broker counts messages from 1 on each connection
};

}  // namespace postrider::brokers
