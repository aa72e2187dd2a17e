// Takes messages from an address of an AMQP 1.0 broker, one at a time, and accepts each when it is
// settled. One that is refused is rejected, so that it goes where dead letters go; what is to come
// again is released. By qpid-proton.
#pragma once

#include "brokers/amqp10_connection.h"
#include "brokers/consumer.h"
#include "brokers/program.h"

#include <memory>
#include <optional>
#include <proton/delivery.h>
#include <string>

namespace postrider::brokers {

class Amqp10Consumer : public Consumer {
 public:
  // settings.topic: the address. The clock outlives it.
  Amqp10Consumer(PublisherSettings settings, const Clock& clock);
  Result<std::optional<BrokerRequest>> next(SteadyTime until) override;
  Result<void> settle(RequestEnd end, SteadyTime until) override;
  bool tend() override;  // signs of life

 private:
  Result<void> connect(SteadyTime until);
  void handle(pn_event_t* event);
  void read(pn_delivery_t* delivery);
  void forget();
  BrokerRequest request();
  Error given_up(const Error& error);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::unique_ptr<Amqp10Connection> connection_;
  pn_link_t* link_ = nullptr;
  bool is_asked_ = false;  // the broker may send one
  std::string encoded_;    // as far as it has come
  bool is_cut_ = false;
  pn_delivery_t* delivery_ = nullptr;  // the request under way, once it is whole
};

}  // namespace postrider::brokers
