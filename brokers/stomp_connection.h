// A session with a STOMP 1.2 broker. Blocking; of one thread.
#pragma once

#include "brokers/broker_connection.h"
#include "brokers/stomp_frame.h"

#include "base/time.h"

#include <memory>
#include <optional>
#include <string>

namespace postrider::brokers {

class StompConnection {
 public:
  // Logged in. roots: a file of certificates; empty: the system's. The clock outlives it.
  static Result<std::unique_ptr<StompConnection>> open(const events::BrokerUrl& url,
                                                       const std::string& password,
                                                       const std::string& roots, const Clock& clock,
                                                       SteadyTime until,
                                                       StompReader::Limits limits);

  // After an error the connection is of no more use.
  Result<void> send(const std::string& bytes, SteadyTime until);
  // The next frame; heart-beats are sent meanwhile. ETIMEDOUT: none has come, and the connection
  // goes on.
  Result<StompFrame> read(SteadyTime until);
  // About once a second while nothing is read: heart-beats. A frame that has come meanwhile.
  Result<std::optional<StompFrame>> tend();

  // The sentence of an ERROR frame.
  static std::string reason_of(const StompFrame& frame);

 private:
  StompConnection(std::unique_ptr<BrokerConnection> connection, const Clock& clock,
                  StompReader::Limits limits);
  Result<void> log_in(const events::BrokerUrl& url, const std::string& password, SteadyTime until);
  Result<void> beat(SteadyTime until);

  std::unique_ptr<BrokerConnection> connection_;
  const Clock& clock_;
  StompReader reader_;
  SteadyTime last_sent_;
};

}  // namespace postrider::brokers
