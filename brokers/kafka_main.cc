// postrider-kafka: events to Kafka.
#include "brokers/kafka_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  const Program program{"postrider-kafka", "kafka",
                        [](PublisherSettings settings, const postrider::Clock& clock) {
                          return std::make_unique<KafkaPublisher>(std::move(settings), clock);
                        }};
  return run_program(program, count, arguments);
}
