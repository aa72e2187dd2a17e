// Control packets of MQTT 5 and 3.1.1 (https://docs.oasis-open.org/mqtt/), as a client writes and reads
// them that takes messages. libmosquitto acknowledges a message before it hands it over; who must
// not acknowledge before there is custody writes the packets itself. Pure.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::brokers {

enum class MqttVersion : std::uint8_t { v3_1_1 = 4, v5 = 5 };

struct MqttLogin {
  MqttVersion version = MqttVersion::v5;
  std::string client;  // whose session the broker keeps
  std::string user, password;
  std::uint16_t keep_alive = 0;  // seconds
};

// With a session that the broker keeps, for ever if it can; by MQTT 5 with one message at a time.
// Texts have at most 65,535 octets.
std::string mqtt_connect(const MqttLogin& login);
// Quality of service 1, and by MQTT 5 without what is retained.
std::string mqtt_subscribe(MqttVersion version, std::uint16_t id, std::string_view filter);
std::string mqtt_acknowledge(std::uint16_t id);
std::string mqtt_ping();

enum class MqttType : std::uint8_t {
  connect_answer = 2,
  message = 3,
  subscribe_answer = 9,
  ping_answer = 13,
  disconnect = 14,
};

struct MqttPacket {
  MqttType type = MqttType::ping_answer;
  // Of answers and of a disconnect: what the broker says; of a subscription, the quality granted.
  std::uint8_t code = 0;
  std::string reason = {};  // for people
  // Of an answer to a connect.
  bool has_session = false;
  std::optional<std::uint16_t> keep_alive = {};
  // Of a message.
  std::uint16_t id = 0;  // 0: it wants no acknowledgement
  bool is_retained = false;
  std::string key = {}, trace_parent = {};  // user properties, of MQTT 5
  std::string body = {};
  bool is_cut = false;  // the body was too long and is not here
};

// Takes packets apart that come in any pieces.
class MqttReader {
 public:
  static constexpr std::size_t kMostOther = 128U << 10U;  // octets of what is no message
  static constexpr std::size_t kMostHead = 256U << 10U;   // before a body, if it is to be kept
  static constexpr std::size_t kMostKept = 2048;          // of a property

  // most_body: a longer one is read to its end and thrown away.
  MqttReader(MqttVersion version, std::size_t most_body)
      : version_(version), most_body_(most_body) {}

  void feed(std::string_view bytes) { bytes_.append(bytes); }
  // What was fed and is not read yet.
  std::size_t waiting() const { return bytes_.size(); }
  // The next packet that has come whole, or none yet. Errc::malformed, Errc::too_long: from here on
  // nothing can be read.
  Result<std::optional<MqttPacket>> next();

 private:
  Result<std::optional<MqttPacket>> start();
  Result<MqttPacket> parse(std::uint8_t first, std::string_view content) const;
  Result<MqttPacket> message(std::uint8_t first, std::string_view content, std::size_t size) const;

  MqttVersion version_;
  std::size_t most_body_;
  std::string bytes_;
  std::size_t left_ = 0;  // of a message that is thrown away
  MqttPacket cut_;        // that one
};

// What the code of an answer or a disconnect means, for people.
std::string mqtt_reason(MqttVersion version, const MqttPacket& packet);
// It may be otherwise later.
bool is_passing(MqttVersion version, const MqttPacket& packet);
// The broker does not speak this version.
bool is_other_version(MqttVersion version, const MqttPacket& packet);

}  // namespace postrider::brokers
