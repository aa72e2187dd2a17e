// postrider-amqp: events to, and mail requests from, brokers that speak AMQP 0.9.1.
#include "brokers/amqp_consumer.h"
#include "brokers/amqp_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  return run_program(
      {"postrider-amqp", "amqp", make_publisher<AmqpPublisher>, make_consumer<AmqpConsumer>}, count,
      arguments);
}
