// postrider-mqtt: events to, and mail requests from, brokers that speak MQTT.
#include "brokers/mqtt_consumer.h"
#include "brokers/mqtt_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  mosquitto_lib_init();
  return run_program(
      {"postrider-mqtt", "mqtt", make_publisher<MqttPublisher>, make_consumer<MqttConsumer>}, count,
      arguments);
}
