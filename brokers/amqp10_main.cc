// postrider-amqp10: events to, and mail requests from, brokers that speak AMQP 1.0.
#include "brokers/amqp10_consumer.h"
#include "brokers/amqp10_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  return run_program({"postrider-amqp10", "amqp10", make_publisher<Amqp10Publisher>,
                      make_consumer<Amqp10Consumer>},
                     count, arguments);
}
