// AMQP 1.0: each event is a durable message of its own, sent unsettled; it counts as taken when the
// broker has accepted it. One that the broker rejects or releases is an error, and comes again.
// RabbitMQ accepts what no queue gets. By qpid-proton.
#pragma once

#include "brokers/amqp10_connection.h"
#include "brokers/program.h"

#include <cstdint>
#include <map>
#include <memory>
#include <proton/delivery.h>
#include <string>
#include <vector>

namespace postrider::brokers {

class Amqp10Publisher : public Publisher {
 public:
  Amqp10Publisher(PublisherSettings settings, const Clock& clock);  // clock outlives it
  Result<void> publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) override;
  void tend() override;  // an idle connection would be ended for want of signs of life

 private:
  Result<void> connect(SteadyTime until);
  Result<pn_link_t*> link_to(const std::string& address, SteadyTime until);
  Result<void> send(const Message& message, std::size_t place, SteadyTime until);
  Result<void> wait(SteadyTime until);
  void handle(pn_event_t* event);
  void settle(pn_delivery_t* delivery);
  Error given_up(const Error& error);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::unique_ptr<Amqp10Connection> connection_;
  std::map<std::string, pn_link_t*> links_;  // of the connection, by address
  std::uint64_t next_tag_ = 0;  // our own: those that proton makes were seen to come twice
  // Of the wave under way.
  std::vector<bool>* taken_ = nullptr;
  std::size_t open_ = 0;
  std::string trouble_;  // why a message was not taken
};

}  // namespace postrider::brokers
