// postrider-amqp: events to brokers that speak AMQP 0.9.1.
#include "brokers/amqp_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  const Program program{"postrider-amqp", "amqp",
                        [](PublisherSettings settings, const postrider::Clock& clock) {
                          return std::make_unique<AmqpPublisher>(std::move(settings), clock);
                        }};
  return run_program(program, count, arguments);
}
