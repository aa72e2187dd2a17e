#include "brokers/mqtt_connection.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr std::uint16_t kPromised = 30;  // seconds in which the broker hears of us
constexpr Duration kShortestPing{1000}, kLongestPing{10'000};
constexpr Duration kSilence{60'000};  // a broker that answers no ping is gone
constexpr std::uint16_t kSubscription = 1;
constexpr std::uint8_t kGranted = 1, kNotGranted = 0x80;

bool is_late(const Error& error) {
  return error.code() == boost::system::errc::timed_out;
}

}  // namespace

MqttConnection::MqttConnection(std::unique_ptr<BrokerConnection> connection, const Clock& clock,
                               MqttVersion version, std::size_t most_body)
    : connection_(std::move(connection)),
      clock_(clock),
      version_(version),
      most_waiting_(most_body),
      reader_(version, most_body),
      ping_every_(kLongestPing),
      last_sent_(clock.steady()),
      last_received_(clock.steady()) {}

Result<std::unique_ptr<MqttConnection>> MqttConnection::open(const Settings& settings,
                                                             const Clock& clock, SteadyTime until,
                                                             MqttVersion& version) {
  bool speaks_other = false;
  auto opened = open_once(settings, clock, until, version, speaks_other);
  if (opened || !speaks_other)
    return opened;
  auto other = open_once(settings, clock, until, MqttVersion::v3_1_1, speaks_other);
  if (other)
    version = MqttVersion::v3_1_1;
  return other;
}

// A broker that does not speak MQTT 5 says so, or hangs up at what it cannot read.
Result<std::unique_ptr<MqttConnection>> MqttConnection::open_once(const Settings& settings,
                                                                  const Clock& clock,
                                                                  SteadyTime until,
                                                                  MqttVersion version,
                                                                  bool& speaks_other) {
  const auto place = settings.url.host + ":" + std::to_string(settings.url.port);
  auto opened = BrokerConnection::open(settings.url, settings.roots, clock, until);
  if (!opened)
    return opened.error().during("connect to " + place);
  std::unique_ptr<MqttConnection> made(
      new MqttConnection(*std::move(opened), clock, version, settings.most_body));
  const auto step = "log in to " + place;
  const auto login =
      mqtt_connect({version, settings.client, settings.url.user, settings.password, kPromised});
  if (auto sent = made->send(login, until); !sent)
    return sent.error().during(step);
  const auto answer = made->read_packet(until);
  speaks_other = version == MqttVersion::v5 &&
                 (answer ? is_other_version(version, *answer) : !is_late(answer.error()));
  if (!answer)
    return answer.error().during(step);
  if (answer->type != MqttType::connect_answer)
    return malformed("the answer").during(step);
  if (answer->code != 0)
    return Error(is_passing(version, *answer) ? Errc::truncated : Errc::refused,
                 step + " (" + mqtt_reason(version, *answer) + ")");
  made->has_session_ = answer->has_session;
  if (answer->keep_alive.value_or(0) != 0)
    made->ping_every_ =
        std::clamp(Duration(*answer->keep_alive * 1000 / 3), kShortestPing, kLongestPing);
  return made;
}

// What waits for the session may come before the answer.
Result<void> MqttConnection::subscribe(const std::string& filter, SteadyTime until) {
  return send(mqtt_subscribe(version_, kSubscription, filter), until);
}

Result<MqttPacket> MqttConnection::read(SteadyTime until) {
  for (;;) {
    auto packet = read_packet(until);
    if (!packet || packet->type == MqttType::message)
      return packet;
    if (packet->type == MqttType::disconnect)
      return ended(*packet);
    if (packet->type == MqttType::connect_answer)
      return malformed("a second answer to the login");
    if (packet->type == MqttType::subscribe_answer)
      if (auto granted = check_subscription(*packet); !granted)
        return granted.error();
  }
}

Result<void> MqttConnection::check_subscription(const MqttPacket& answer) const {
  if (answer.code == kGranted)
    return {};
  if (answer.code == 0)
    return Error(Errc::refused, "subscribe (quality of service 1 is not granted)");
  // MQTT 3.1.1 has one code for all that goes wrong.
  const auto said = answer.code == kNotGranted && answer.reason.empty()
                        ? std::string("the broker refuses it")
                        : mqtt_reason(version_, answer);
  return Error(is_passing(version_, answer) ? Errc::truncated : Errc::refused,
               "subscribe (" + said + ")");
}

Error MqttConnection::ended(const MqttPacket& farewell) const {
  return Error(is_passing(version_, farewell) ? Errc::truncated : Errc::refused,
               "the broker ends the connection (" + mqtt_reason(version_, farewell) + ")");
}

Result<MqttPacket> MqttConnection::read_packet(SteadyTime until) {
  for (;;) {
    auto packet = reader_.next();
    if (!packet)
      return packet.error();
    if (*packet)
      return **std::move(packet);
    const auto turn = std::min(until, last_sent_ + ping_every_);
    auto received = connection_->receive(turn);
    const auto now = clock_.steady();
    if (received) {
      last_received_ = now;
      reader_.feed(*received);
      continue;
    }
    if (!is_late(received.error()) || now >= until)
      return received.error();
    if (now - last_received_ > kSilence)
      return Error(Errc::truncated, "the broker says nothing");
    if (auto pinged = ping(until); !pinged)
      return pinged.error();
  }
}

Result<void> MqttConnection::acknowledge(std::uint16_t id, SteadyTime until) {
  return send(mqtt_acknowledge(id), until);
}

// By MQTT 3.1.1 a broker sends more than one message; what is beyond one of the largest waits there.
Result<void> MqttConnection::tend() {
  constexpr Duration kLimit{1000};
  const auto now = clock_.steady();
  if (reader_.waiting() <= most_waiting_) {
    auto received = connection_->receive_now();
    if (!received)
      return received.error();
    if (!received->empty())
      last_received_ = now;
    reader_.feed(*received);
  }
  if (now - last_sent_ < ping_every_)
    return {};
  return ping(now + kLimit);
}

Result<void> MqttConnection::send(const std::string& bytes, SteadyTime until) {
  if (auto sent = connection_->send(bytes, until); !sent)
    return sent;
  last_sent_ = clock_.steady();
  return {};
}

Result<void> MqttConnection::ping(SteadyTime until) {
  return send(mqtt_ping(), until);
}

}  // namespace postrider::brokers
