// The frame of a program that carries events to the brokers of one protocol and brings mail requests
// from there: postrider-amqp and its like. It serves each sink and each source of requests of the
// configuration whose `broker` is of its protocol, on threads of their own, as a user without
// rights, confined. It keeps nothing: what is not yet with the broker waits in the daemon's outbox,
// and a request at the broker until its mail is taken, so the program may end at any moment.
#pragma once

#include "brokers/consumer.h"
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
  // "{type}" stands for the type of the event. Of a Consumer: where it takes from.
  std::string topic;
  std::string roots;  // a file of certificates; empty: the system's

  std::string place() const { return url.host + ":" + std::to_string(url.port); }  // for people
};

struct Program {
  const char* name;      // "postrider-amqp"
  const char* protocol;  // of events::BrokerUrl
  std::function<std::unique_ptr<Publisher>(PublisherSettings settings, const Clock& clock)> make;
  // Null: no requests come by this protocol.
  std::function<std::unique_ptr<Consumer>(PublisherSettings settings, const Clock& clock)> consume =
      nullptr;
};

template <class Client>
std::unique_ptr<Publisher> make_publisher(PublisherSettings settings, const Clock& clock) {
  return std::make_unique<Client>(std::move(settings), clock);
}

template <class Client>
std::unique_ptr<Consumer> make_consumer(PublisherSettings settings, const Clock& clock) {
  return std::make_unique<Client>(std::move(settings), clock);
}

// Until it is ended. Gives the exit status.
int run_program(const Program& program, int count, char** arguments);

// The topic of a message.
std::string topic_of(const std::string& pattern, const Message& message);

}  // namespace postrider::brokers
