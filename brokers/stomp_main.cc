// postrider-stomp: events to, and mail requests from, brokers that speak STOMP.
#include "brokers/stomp_consumer.h"
#include "brokers/stomp_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  return run_program(
      {"postrider-stomp", "stomp", make_publisher<StompPublisher>, make_consumer<StompConsumer>},
      count, arguments);
}
