// postrider-kafka: events to, and mail requests from, Kafka.
#include "brokers/kafka_consumer.h"
#include "brokers/kafka_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  return run_program(
      {"postrider-kafka", "kafka", make_publisher<KafkaPublisher>, make_consumer<KafkaConsumer>},
      count, arguments);
}
