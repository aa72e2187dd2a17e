// postrider-mqtt: events to brokers that speak MQTT.
#include "brokers/mqtt_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  mosquitto_lib_init();
  const Program program{"postrider-mqtt", "mqtt",
                        [](PublisherSettings settings, const postrider::Clock& clock) {
                          return std::make_unique<MqttPublisher>(std::move(settings), clock);
                        }};
  return run_program(program, count, arguments);
}
