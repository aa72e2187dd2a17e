// A connection to an AMQP 1.0 broker with one session, by the engine of qpid-proton, on streams of our
// own. Blocking; of one thread.
#pragma once

#include "brokers/broker_connection.h"

#include "base/time.h"

#include <functional>
#include <memory>
#include <optional>
#include <proton/connection_driver.h>
#include <proton/event.h>
#include <proton/link.h>
#include <string>
#include <string_view>

namespace postrider::brokers {

class Amqp10Connection {
 public:
  struct Settings {
    events::BrokerUrl url;
    std::string password;
    std::string roots;      // a file of certificates; empty: the system's
    std::string container;  // who we are
  };
  using Handler = std::function<void(pn_event_t*)>;

  // Logged in, with an open session. The clock outlives it.
  static Result<std::unique_ptr<Amqp10Connection>> open(const Settings& settings,
                                                        const Clock& clock, SteadyTime until);
  ~Amqp10Connection();
  Amqp10Connection(const Amqp10Connection&) = delete;
  Amqp10Connection& operator=(const Amqp10Connection&) = delete;

  pn_session_t* session() const { return session_; }
  // Sends what there is to send, waits for what the broker says, and gives each event to the handler.
  // ETIMEDOUT: nothing has come, and the connection goes on. After another error, such as that the
  // broker has closed a link, it is of no more use. May return early.
  Result<void> turn(SteadyTime until, const Handler& handler);
  // The same without waiting.
  Result<void> turn_now(const Handler& handler);

 private:
  Amqp10Connection(std::unique_ptr<BrokerConnection> connection, const Clock& clock);
  Result<void> log_in(const Settings& settings, SteadyTime until);
  Result<void> feed(std::string_view bytes, const Handler& handler);
  Result<void> handle_events(const Handler& handler);
  Result<void> flush(SteadyTime until);
  std::optional<SteadyTime> tick();
  void take_note(pn_event_t* event);

  std::unique_ptr<BrokerConnection> connection_;
  const Clock& clock_;
  pn_connection_driver_t driver_{};
  pn_session_t* session_ = nullptr;
  std::optional<Error> trouble_;  // that the broker has told of
};

// What a condition says, for people; empty: there is none.
std::string reason_of(pn_condition_t* condition);

}  // namespace postrider::brokers
