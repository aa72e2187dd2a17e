// postrider-amqp: events to brokers that speak AMQP 0.9.1.
#include "brokers/amqp_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  return run_program({"postrider-amqp", "amqp", make_publisher<AmqpPublisher>}, count, arguments);
}
