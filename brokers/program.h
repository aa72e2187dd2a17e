// The frame of a program that carries events to the brokers of one protocol: postrider-amqp and its
// like. It serves each sink of the configuration whose `broker` is of its protocol, on a thread of
// its own, as a user without rights, confined. It keeps nothing: what is not yet with the broker
// waits in the daemon's outbox, so the program may end at any moment.
#pragma once

#include "brokers/publisher.h"
#include "events/broker_url.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace postrider::brokers {

struct PublisherSettings {
  std::string name;  // of the sink
  std::string host;  // ours
  events::BrokerUrl url;
  std::string password;
  std::string exchange;
  std::string topic;  // "{type}" stands for the type of the event
  std::string roots;  // a file of certificates; empty: the system's

  std::string place() const { return url.host + ":" + std::to_string(url.port); }  // for people
};

struct Program {
  const char* name;      // "postrider-amqp"
  const char* protocol;  // of events::BrokerUrl
  std::function<std::unique_ptr<Publisher>(PublisherSettings settings, const Clock& clock)> make;
};

template <class Client>
std::unique_ptr<Publisher> make_publisher(PublisherSettings settings, const Clock& clock) {
  return std::make_unique<Client>(std::move(settings), clock);
}

// Until it is ended. Gives the exit status.
int run_program(const Program& program, int count, char** arguments);

// The topic of a message.
std::string topic_of(const std::string& pattern, const Message& message);

}  // namespace postrider::brokers
