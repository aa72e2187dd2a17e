// A session with an MQTT broker, for who takes messages: MQTT 5, or 3.1.1 where the broker speaks no
// other. The broker keeps the session while there is no connection. Blocking; of one thread.
#pragma once

#include "brokers/broker_connection.h"
#include "brokers/mqtt_packet.h"

#include "base/time.h"

#include <memory>
#include <string>

namespace postrider::brokers {

class MqttConnection {
 public:
  struct Settings {
    events::BrokerUrl url;
    std::string password;
    std::string roots;  // a file of certificates; empty: the system's
    std::string client;
    std::size_t most_body = 0;
  };
  // Logged in. version: which is tried; 3.1.1 becomes of it where the broker speaks no other. The
  // clock outlives it.
  static Result<std::unique_ptr<MqttConnection>> open(const Settings& settings, const Clock& clock,
                                                      SteadyTime until, MqttVersion& version);

  // The broker has kept the session, with what came meanwhile.
  bool has_session() const { return has_session_; }
  // After an error the connection is of no more use. That the broker refuses it read() says.
  Result<void> subscribe(const std::string& filter, SteadyTime until);
  // The next message; pings are sent meanwhile. ETIMEDOUT: none has come, and the connection goes on.
  Result<MqttPacket> read(SteadyTime until);
  Result<void> acknowledge(std::uint16_t id, SteadyTime until);
  // About once a second while nothing is read: pings. What has come meanwhile is kept for read().
  Result<void> tend();

 private:
  MqttConnection(std::unique_ptr<BrokerConnection> connection, const Clock& clock,
                 MqttVersion version, std::size_t most_body);
  static Result<std::unique_ptr<MqttConnection>> open_once(const Settings& settings,
                                                           const Clock& clock, SteadyTime until,
                                                           MqttVersion version, bool& speaks_other);
  Result<MqttPacket> read_packet(SteadyTime until);
  Result<void> check_subscription(const MqttPacket& answer) const;
  Error ended(const MqttPacket& farewell) const;
  Result<void> send(const std::string& bytes, SteadyTime until);
  Result<void> ping(SteadyTime until);

  std::unique_ptr<BrokerConnection> connection_;
  const Clock& clock_;
  const MqttVersion version_;
  const std::size_t most_waiting_;  // octets that are read ahead
  MqttReader reader_;
  bool has_session_ = false;
  Duration ping_every_;
  SteadyTime last_sent_, last_received_;
};

}  // namespace postrider::brokers
