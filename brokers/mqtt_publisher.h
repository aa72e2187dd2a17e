// MQTT 3.1.1: each event is a message of quality of service 1, which the broker acknowledges. That
// a topic has no subscriber is nothing that it tells. By libmosquitto.
#pragma once

#include "brokers/program.h"

#include <cstdint>
#include <memory>
#include <mosquitto.h>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::brokers {

class MqttPublisher : public Publisher {
 public:
  MqttPublisher(PublisherSettings settings, const Clock& clock);  // clock outlives it
  Result<void> publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) override;
  void tend() override;  // pings; an idle connection would be ended for want of them

 private:
  struct Destroy {
    void operator()(mosquitto* client) const { mosquitto_destroy(client); }
  };

  Result<void> connect(SteadyTime until);
  Result<void> prepare();
  Result<void> send(const Message& message, std::size_t place);
  Result<void> turn(SteadyTime until, const std::string& step);
  Error lost(int status, const std::string& step);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::unique_ptr<mosquitto, Destroy> client_;
  int answer_ = -1;                            // to our CONNECT; -1: none yet
  std::unordered_map<int, std::size_t> open_;  // not acknowledged, with the place in the wave
  std::vector<std::size_t> acknowledged_;
};

}  // namespace postrider::brokers
