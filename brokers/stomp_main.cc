// postrider-stomp: events to brokers that speak STOMP.
#include "brokers/stomp_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  return run_program({"postrider-stomp", "stomp", make_publisher<StompPublisher>}, count,
                     arguments);
}
