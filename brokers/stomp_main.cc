// postrider-stomp: events to brokers that speak STOMP.
#include "brokers/stomp_publisher.h"

using namespace postrider::brokers;

int main(int count, char** arguments) {
  const Program program{"postrider-stomp", "stomp",
                        [](PublisherSettings settings, const postrider::Clock& clock) {
                          return std::make_unique<StompPublisher>(std::move(settings), clock);
                        }};
  return run_program(program, count, arguments);
}
