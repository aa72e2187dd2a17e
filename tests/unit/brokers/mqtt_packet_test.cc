#include "brokers/mqtt_packet.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::brokers;
using namespace std::string_literals;

namespace {

constexpr std::size_t kMost = 64;

std::string packet(unsigned first, const std::string& content) {
  std::string out(1, static_cast<char>(first));
  auto size = content.size();
  do {
    out.push_back(static_cast<char>((size & 0x7fU) | (size > 0x7fU ? 0x80U : 0U)));
    size >>= 7U;
  } while (size > 0);
  return out + content;
}

std::string text(const std::string& value) {
  return std::string{static_cast<char>(value.size() >> 8U), static_cast<char>(value.size())} +
         value;
}

std::string property(const std::string& name, const std::string& value) {
  return "\x26" + text(name) + text(value);
}

// Of MQTT 5, with fewer than 128 octets of properties.
std::string message(const std::string& body, const std::string& properties = "",
                    unsigned first = 0x32) {
  const auto id = (first & 2U) != 0 ? "\0\7"s : ""s;
  return packet(first,
                text("mail") + id + static_cast<char>(properties.size()) + properties + body);
}

// All of it, at once and octet by octet, which must make no difference.
std::vector<MqttPacket> read_all(const std::string& bytes, boost::system::error_code& code,
                                 MqttVersion version = MqttVersion::v5) {
  std::vector<MqttPacket> found, slowly;
  code = {};
  const auto drain = [&code](MqttReader& reader, std::vector<MqttPacket>& into) {
    for (;;) {
      auto next = reader.next();
      if (!next)
        code = next.error().code();
      if (!next || !*next)
        return next.has_value();
      into.push_back(**std::move(next));
    }
  };
  MqttReader slow(version, kMost);
  for (const char octet : bytes) {
    slow.feed({&octet, 1});
    if (!drain(slow, slowly))
      break;
  }
  const auto slow_code = std::exchange(code, {});
  MqttReader whole(version, kMost);
  whole.feed(bytes);
  (void)drain(whole, found);
  CHECK(code == slow_code);
  REQUIRE(found.size() == slowly.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].body == slowly[i].body);
    CHECK(found[i].key == slowly[i].key);
    CHECK(found[i].is_cut == slowly[i].is_cut);
  }
  return found;
}

MqttPacket read_one(const std::string& bytes, MqttVersion version = MqttVersion::v5) {
  boost::system::error_code code;
  auto found = read_all(bytes, code, version);
  CHECK_FALSE(code);
  REQUIRE(found.size() == 1);
  return found.front();
}

boost::system::error_code problem(const std::string& bytes, MqttVersion version = MqttVersion::v5) {
  boost::system::error_code code;
  (void)read_all(bytes, code, version);
  return code;
}

}  // namespace

TEST_CASE("packets are written as MQTT has them", "[mqtt]") {
  CHECK(mqtt_connect({MqttVersion::v5, "c", "u", "pw", 30}) ==
        "\x10\x1d\0\4MQTT\5\xc0\0\x1e\x08\x11\xff\xff\xff\xff\x21\0\1\0\1c\0\1u\0\2pw"s);
  CHECK(mqtt_connect({MqttVersion::v3_1_1, "c", "", "pw", 30}) ==
        "\x10\x0d\0\4MQTT\4\0\0\x1e\0\1c"s);
  CHECK(mqtt_subscribe(MqttVersion::v5, 1, "a/#") == "\x82\x09\0\1\0\0\3a/#\x21"s);
  CHECK(mqtt_subscribe(MqttVersion::v3_1_1, 1, "a/#") == "\x82\x08\0\1\0\3a/#\1"s);
  CHECK(mqtt_acknowledge(0x1234) == "\x40\2\x12\x34"s);
  CHECK(mqtt_ping() == "\xc0\0"s);
  const auto long_name = mqtt_subscribe(MqttVersion::v3_1_1, 1, std::string(200, 'x'));
  CHECK(long_name.substr(0, 5) == "\x82\xcd\1\0\1"s);
}

TEST_CASE("answers are read in both versions", "[mqtt]") {
  auto answer = read_one("\x20\2\1\0"s, MqttVersion::v3_1_1);
  CHECK((answer.type == MqttType::connect_answer && answer.has_session && answer.code == 0));
  answer = read_one(packet(0x20, "\0\x87\x0d\x13\0\x05\x1f\0\7go away"s));
  CHECK_FALSE(answer.has_session);
  CHECK(answer.keep_alive == 5);
  CHECK(mqtt_reason(MqttVersion::v5, answer) == "not authorised: go away");
  CHECK_FALSE(is_passing(MqttVersion::v5, answer));
  // A broker of 3.1.1 says in its own way that it does not know 5.
  answer = read_one("\x20\2\0\1"s);
  CHECK(is_other_version(MqttVersion::v5, answer));
  CHECK(mqtt_reason(MqttVersion::v5, answer) == "another version of the protocol");
  answer = read_one("\x90\3\0\1\x80"s, MqttVersion::v3_1_1);
  CHECK((answer.type == MqttType::subscribe_answer && answer.id == 1 && answer.code == 0x80));
  CHECK(read_one("\x90\4\0\1\0\1"s).code == 1);
  CHECK(read_one("\xd0\0"s).type == MqttType::ping_answer);
  answer = read_one("\xe0\0"s);
  CHECK((answer.type == MqttType::disconnect && answer.code == 0));
  answer = read_one("\xe0\1\x8b"s);
  CHECK((answer.code == 0x8b && is_passing(MqttVersion::v5, answer)));
  CHECK(mqtt_reason(MqttVersion::v5, read_one("\xe0\1\xff"s)) == "code 255");
}

TEST_CASE("a message has its body, its number and what the application says of it", "[mqtt]") {
  auto found = read_one(message("{}", property("idempotency-key", "k1") + "\x01\1"s +
                                          property("traceparent", "00-a") +
                                          property("idempotency-key", "k2")));
  CHECK((found.type == MqttType::message && found.id == 7 && !found.is_retained));
  CHECK(found.body == "{}");
  CHECK(found.key == "k1");
  CHECK(found.trace_parent == "00-a");
  found = read_one(message("x", "", 0x31));
  CHECK((found.id == 0 && found.is_retained && found.body == "x"));
  found = read_one(packet(0x3a, text("mail") + "\0\7"s + "{}"), MqttVersion::v3_1_1);
  CHECK((found.body == "{}" && found.id == 7));
  CHECK(read_one(message("")).body.empty());
}

TEST_CASE("what is no packet is malformed", "[mqtt]") {
  for (const auto& bytes :
       {"\x20\x80\x80\x80\x80\x01"s,                      // a length without end
        "\x30\1\0"s,                                      // half of a topic's length
        packet(0x32, text("mail") + "\0\0\0"s),           // number 0
        packet(0x34, text("mail") + "\0\7\0"s),           // quality 2
        packet(0x32, text("mail") + "\0"s),               // half of its number
        packet(0x32, text("mail") + "\0\7\5\x26\0\1a"s),  // properties beyond its end
        packet(0x32, text("mail") + "\0\7\1\x7f"s),       // an unknown property
        packet(0x32, text("mail") + "\0\7\3\x26\0\5"s),   // a property beyond the others
        packet(0x32, text("mail") + "\0\7\xff\xff\xff\xff\1"s), packet(0x32, "\0\x20mail"s),
        "\x20\1\0"s, "\x90\2\0\1"s, "\xd0\1x"s, "\x10\0"s, "\xf0\0"s,
        std::string(1, '\0') + '\0'}) {
    INFO(bytes.size() << " octets, the first " << static_cast<int>(bytes[0]));
    CHECK(problem(bytes) == Errc::malformed);
  }
  CHECK(problem("\xe0\0"s, MqttVersion::v3_1_1) == Errc::malformed);
  CHECK(problem(packet(0x90, std::string(MqttReader::kMostOther + 1, 'x'))) == Errc::too_long);
}

TEST_CASE("a body that is too long is thrown away, and what follows is read", "[mqtt]") {
  for (const std::size_t size : {kMost + 1, 1000UL, MqttReader::kMostHead + 1000}) {
    boost::system::error_code code;
    const auto found = read_all(
        message(std::string(size, 'x'), property("idempotency-key", "k")) + message("next"), code);
    CHECK_FALSE(code);
    REQUIRE(found.size() == 2);
    CHECK((found[0].is_cut && found[0].body.empty() && found[0].id == 7 && found[0].key == "k"));
    CHECK((!found[1].is_cut && found[1].body == "next"));
  }
  const auto found = read_one(message(std::string(kMost, 'x')));
  CHECK((!found.is_cut && found.body.size() == kMost));
}

TEST_CASE("a message with properties without end is thrown away, and keeps nothing of them",
          "[mqtt]") {
  std::string properties;
  while (properties.size() < 2 * MqttReader::kMostHead)
    properties += property("idempotency-key", std::string(60000, 'k'));
  const auto size = properties.size();
  const std::string length{static_cast<char>(size | 0x80U), static_cast<char>(size >> 7U | 0x80U),
                           static_cast<char>(size >> 14U)};
  MqttReader reader(MqttVersion::v5, kMost);
  reader.feed(packet(0x32, text("mail") + "\0\7"s + length + properties + "{}") + message("next"));
  const auto cut = reader.next();
  REQUIRE((cut && *cut));
  CHECK((**cut).is_cut);
  CHECK((**cut).id == 7);
  CHECK((**cut).key.size() == MqttReader::kMostKept);
  const auto next = reader.next();
  REQUIRE((next && *next));
  CHECK((**next).body == "next");
}
