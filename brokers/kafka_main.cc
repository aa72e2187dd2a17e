// postrider-kafka: events to Kafka.
#include "brokers/kafka_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  return run_program({"postrider-kafka", "kafka", make_publisher<KafkaPublisher>}, count,
                     arguments);
}
