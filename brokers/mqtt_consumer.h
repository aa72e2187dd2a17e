// Takes messages from a topic of an MQTT broker, one at a time, and acknowledges each when it is
// settled; what is not acknowledged the broker sends again to the same session. MQTT knows no
// refusal of a message: one that is refused is acknowledged like the others.
#pragma once

#include "brokers/consumer.h"
#include "brokers/mqtt_connection.h"
#include "brokers/program.h"

#include <memory>
#include <optional>

namespace postrider::brokers {

class MqttConsumer : public Consumer {
 public:
  // settings.topic: a topic filter. The clock outlives it.
  MqttConsumer(PublisherSettings settings, const Clock& clock);
  Result<std::optional<BrokerRequest>> next(SteadyTime until) override;
  Result<void> settle(RequestEnd end, SteadyTime until) override;
  bool tend() override;  // pings

 private:
  Result<void> connect(SteadyTime until);
  BrokerRequest request_of(MqttPacket message);
  Error given_up(const Error& error);

  const PublisherSettings settings_;
  const Clock& clock_;
  MqttVersion version_ = MqttVersion::v5;
  std::unique_ptr<MqttConnection> connection_;
  bool had_session_ = false;
  std::uint16_t id_ = 0;  // of the request under way; 0: it has none, and does not come again
  // Such a one: the broker has forgotten it.
  std::optional<BrokerRequest> kept_;
  bool is_kept_due_ = false;
};

}  // namespace postrider::brokers
