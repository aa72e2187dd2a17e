#include "brokers/mqtt_packet.h"

#include "base/text.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr std::size_t kMostReason = 300;
constexpr std::uint8_t kAtLeastOnce = 1;
constexpr unsigned kLengthOctets = 4;  // at most, of a number in sevens of bits
constexpr std::string_view kKeyProperty = "idempotency-key", kTraceProperty = "traceparent";

// Of MQTT 5 (§2.2.2.2).
constexpr std::uint8_t kSessionExpiry = 0x11, kServerKeepAlive = 0x13, kReasonString = 0x1f,
                       kReceiveMaximum = 0x21, kUserProperty = 0x26;

enum class Form : std::uint8_t { octet, two, four, number, text, pair };
struct Property {
  std::uint8_t id;
  Form form;
};
constexpr Property kProperties[] = {{0x01, Form::octet},
                                    {0x02, Form::four},
                                    {0x03, Form::text},
                                    {0x08, Form::text},
                                    {0x09, Form::text},
                                    {0x0b, Form::number},
                                    {kSessionExpiry, Form::four},
                                    {0x12, Form::text},
                                    {kServerKeepAlive, Form::two},
                                    {0x15, Form::text},
                                    {0x16, Form::text},
                                    {0x17, Form::octet},
                                    {0x18, Form::four},
                                    {0x19, Form::octet},
                                    {0x1a, Form::text},
                                    {0x1c, Form::text},
                                    {kReasonString, Form::text},
                                    {kReceiveMaximum, Form::two},
                                    {0x22, Form::two},
                                    {0x23, Form::two},
                                    {0x24, Form::octet},
                                    {0x25, Form::octet},
                                    {kUserProperty, Form::pair},
                                    {0x27, Form::four},
                                    {0x28, Form::octet},
                                    {0x29, Form::octet},
                                    {0x2a, Form::octet}};

// Once something was missing, everything reads as zero or empty, and good() is false.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}

  std::uint64_t big_endian(std::size_t size) {
    std::uint64_t value = 0;
    for (const char c : octets(size))
      value = value << 8U | static_cast<unsigned char>(c);
    return value;
  }
  std::string_view text() { return octets(big_endian(2)); }
  // Seven bits an octet, the lowest first (§1.5.5).
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < kLengthOctets; ++i) {
      const auto octet = big_endian(1);
      value |= (octet & 0x7fU) << (7 * i);
      if (octet < 0x80U)
        return value;
    }
    good_ = false;
    return 0;
  }
  std::string_view octets(std::uint64_t size) {
    if (!good_ || size > left_.size()) {
      good_ = false;
      return {};
    }
    const auto value = left_.substr(0, size);
    left_.remove_prefix(size);
    return value;
  }
  std::string_view rest() { return good_ ? std::exchange(left_, {}) : std::string_view(); }
  std::size_t left() const { return left_.size(); }
  bool good() const { return good_; }

 private:
  std::string_view left_;
  bool good_ = true;
};

std::string big_endian(std::uint64_t value, std::size_t size) {
  std::string out;
  while (size-- > 0)
    out.push_back(static_cast<char>(value >> (8 * size) & 0xffU));
  return out;
}

std::string text_field(std::string_view text) {
  const auto kept = text.substr(0, 0xffff);
  return big_endian(kept.size(), 2).append(kept);
}

std::string packet_of(std::uint8_t first, std::string_view content) {
  std::string out(1, static_cast<char>(first));
  auto size = content.size();
  do {
    const auto octet = size & 0x7fU;
    size >>= 7U;
    out.push_back(static_cast<char>(octet | (size > 0 ? 0x80U : 0)));
  } while (size > 0);
  return out.append(content);
}

// What is wanted of a property goes into the packet; of several with one name the first counts.
void take_property(std::uint8_t id, std::uint64_t value, std::string_view name,
                   std::string_view text, MqttPacket& packet) {
  if (id == kServerKeepAlive)
    packet.keep_alive = static_cast<std::uint16_t>(value);
  if (id == kReasonString)
    packet.reason = escaped(text, kMostReason);
  auto* const wanted = id != kUserProperty      ? nullptr
                       : name == kKeyProperty   ? &packet.key
                       : name == kTraceProperty ? &packet.trace_parent
                                                : nullptr;
  if (wanted != nullptr && wanted->empty())
    *wanted = text.substr(0, MqttReader::kMostKept);
}

// False: they are malformed. Of such as are cut, what stands before that is taken.
bool take_properties(std::string_view bytes, MqttPacket& packet) {
  Fields fields(bytes);
  while (fields.good() && fields.left() > 0) {
    const auto id = static_cast<std::uint8_t>(fields.big_endian(1));
    const auto* const known = std::find_if(std::begin(kProperties), std::end(kProperties),
                                           [&](const Property& one) { return one.id == id; });
    if (known == std::end(kProperties))
      return false;
    std::uint64_t value = 0;
    std::string_view name, text;
    switch (known->form) {
      case Form::octet:
        value = fields.big_endian(1);
        break;
      case Form::two:
        value = fields.big_endian(2);
        break;
      case Form::four:
        value = fields.big_endian(4);
        break;
      case Form::number:
        value = fields.number();
        break;
      case Form::pair:
        name = fields.text();
        text = fields.text();
        break;
      case Form::text:
        text = fields.text();
        break;
    }
    if (fields.good())
      take_property(id, value, name, text, packet);
  }
  return fields.good();
}

struct Code {
  std::uint8_t code;
  const char* meaning;
  bool is_passing;
};
constexpr Code kCodes3[] = {{1, "another version of the protocol", false},
                            {2, "the client's name is refused", false},
                            {3, "the broker is unavailable", true},
                            {4, "a wrong user or password", false},
                            {5, "not authorised", false}};
constexpr Code kCodes5[] = {{0x00, "the connection ends", true},
                            {0x84, "another version of the protocol", false},
                            {0x85, "the client's name is refused", false},
                            {0x86, "a wrong user or password", false},
                            {0x87, "not authorised", false},
                            {0x88, "the broker is unavailable", true},
                            {0x89, "the broker is busy", true},
                            {0x8a, "banned", false},
                            {0x8b, "the broker stops", true},
                            {0x8d, "nothing was heard of us", true},
                            {0x8e, "somebody else has taken the session over", false},
                            {0x8f, "the topic is refused", false},
                            {0x96, "too many messages", true},
                            {0x97, "a quota is exceeded", true},
                            {0x98, "an administrator has ended it", true},
                            {0x9b, "quality of service 1 is not supported", false},
                            {0x9c, "use another server", false},
                            {0x9d, "the server has moved", false},
                            {0x9e, "shared subscriptions are not supported", false},
                            {0x9f, "too many connections", true},
                            {0xa2, "subscriptions with wildcards are not supported", false}};

const Code* find_code(MqttVersion version, std::uint8_t code) {
  const auto find = [code](const auto& codes) -> const Code* {
    const auto* const found = std::find_if(std::begin(codes), std::end(codes),
                                           [&](const Code& one) { return one.code == code; });
    return found == std::end(codes) ? nullptr : found;
  };
  // A broker that does not know MQTT 5 answers in its own version.
  return version == MqttVersion::v5 && (code == 0 || code >= 0x80U) ? find(kCodes5) : find(kCodes3);
}

}  // namespace

std::string mqtt_connect(const MqttLogin& login) {
  constexpr unsigned kUser = 0x80, kPassword = 0x40;
  constexpr std::uint64_t kNever = 0xffffffff;
  const bool is_5 = login.version == MqttVersion::v5;
  // MQTT 3.1.1 has no password without a user (§3.1.2.9).
  const unsigned flags = login.user.empty() ? 0 : kUser | kPassword;
  std::string content = text_field("MQTT");
  content += static_cast<char>(login.version);
  content += static_cast<char>(flags);
  content += big_endian(login.keep_alive, 2);
  if (is_5) {
    const auto properties = static_cast<char>(kSessionExpiry) + big_endian(kNever, 4) +
                            static_cast<char>(kReceiveMaximum) + big_endian(1, 2);
    content += static_cast<char>(properties.size());
    content += properties;
  }
  content += text_field(login.client);
  if (flags != 0)
    content += text_field(login.user) + text_field(login.password);
  return packet_of(0x10, content);
}

std::string mqtt_subscribe(MqttVersion version, std::uint16_t id, std::string_view filter) {
  constexpr std::uint8_t kNothingRetained = 0x20;
  const bool is_5 = version == MqttVersion::v5;
  std::string content = big_endian(id, 2);
  if (is_5)
    content += '\0';  // no properties
  content += text_field(filter);
  content += static_cast<char>(kAtLeastOnce | (is_5 ? kNothingRetained : 0));
  return packet_of(0x82, content);
}

std::string mqtt_acknowledge(std::uint16_t id) {
  return packet_of(0x40, big_endian(id, 2));
}

std::string mqtt_ping() {
  return packet_of(0xc0, "");
}

Result<std::optional<MqttPacket>> MqttReader::next() {
  if (left_ == 0)
    return start();
  const auto gone = std::min(left_, bytes_.size());
  bytes_.erase(0, gone);
  left_ -= gone;
  if (left_ > 0)
    return std::optional<MqttPacket>();
  return std::optional(std::exchange(cut_, {}));
}

Result<std::optional<MqttPacket>> MqttReader::start() {
  constexpr std::size_t kMostFirst = 1 + kLengthOctets;
  Fields fields(std::string_view(bytes_).substr(0, kMostFirst));
  const auto first = static_cast<std::uint8_t>(fields.big_endian(1));
  const auto size = static_cast<std::size_t>(fields.number());
  if (!fields.good() && bytes_.size() < kMostFirst)
    return std::optional<MqttPacket>();
  if (!fields.good())
    return malformed("the length of a packet");
  const auto head = std::min(bytes_.size(), kMostFirst) - fields.left();
  const auto have = bytes_.size() - head;
  const bool is_message = first >> 4U == static_cast<unsigned>(MqttType::message);
  if (!is_message && size > kMostOther)
    return Error(Errc::too_long, "a packet");
  const bool is_whole = size <= most_body_ + kMostHead;
  const auto wanted = is_whole ? size : kMostHead;
  if (have < wanted)
    return std::optional<MqttPacket>();
  const auto content = std::string_view(bytes_).substr(head, wanted);
  auto packet = is_message ? message(first, content, size) : parse(first, content);
  if (!packet)
    return packet.error();
  bytes_.erase(0, head + wanted);
  if (is_whole)
    return std::optional(*std::move(packet));
  cut_ = *std::move(packet);
  left_ = size - wanted;
  return next();
}

Result<MqttPacket> MqttReader::parse(std::uint8_t first, std::string_view content) const {
  const bool is_5 = version_ == MqttVersion::v5;
  MqttPacket packet;
  packet.type = static_cast<MqttType>(first >> 4U);
  Fields fields(content);
  bool has_properties = is_5;
  switch (packet.type) {
    case MqttType::connect_answer:
      packet.has_session = (fields.big_endian(1) & 1U) != 0;
      packet.code = static_cast<std::uint8_t>(fields.big_endian(1));
      has_properties = is_5 && fields.left() > 0;  // or it answers in its own version
      break;
    case MqttType::subscribe_answer:
      packet.id = static_cast<std::uint16_t>(fields.big_endian(2));
      break;
    case MqttType::disconnect:
      if (!is_5)
        return malformed("a packet of type 14");
      packet.code = fields.left() > 0 ? static_cast<std::uint8_t>(fields.big_endian(1)) : 0;
      has_properties = fields.left() > 0;
      break;
    case MqttType::ping_answer:
      has_properties = false;
      break;
    default:
      return malformed("a packet of type " + std::to_string(first >> 4U));
  }
  if (has_properties)
    if (!take_properties(fields.octets(fields.number()), packet))
      return malformed("the properties of a packet");
  if (packet.type == MqttType::subscribe_answer)
    packet.code = static_cast<std::uint8_t>(fields.big_endian(1));
  if (!fields.good() || fields.left() > 0)
    return malformed("a packet of type " + std::to_string(first >> 4U));
  return packet;
}

// size: of the whole; the content may be less.
Result<MqttPacket> MqttReader::message(std::uint8_t first, std::string_view content,
                                       std::size_t size) const {
  const auto quality = static_cast<std::uint8_t>(first >> 1U & 3U);
  const bool is_whole = content.size() == size;
  MqttPacket packet;
  packet.type = MqttType::message;
  packet.is_retained = (first & 1U) != 0;
  if (quality > kAtLeastOnce)
    return malformed("a message of a quality that was not asked for");
  Fields fields(content);
  (void)fields.text();  // the topic
  if (quality == kAtLeastOnce)
    packet.id = static_cast<std::uint16_t>(fields.big_endian(2));
  bool is_good = quality == 0 || packet.id != 0;
  bool is_head_whole = true;
  if (version_ == MqttVersion::v5) {
    const auto properties = fields.number();
    is_head_whole = properties <= fields.left();
    is_good = is_good && (is_head_whole || !is_whole);
    const bool taken =
        take_properties(fields.octets(std::min<std::uint64_t>(properties, fields.left())), packet);
    is_good = is_good && (taken || !is_head_whole);
  }
  if (!is_good || !fields.good())
    return malformed("a message");
  packet.is_cut = !is_whole || fields.left() > most_body_;
  if (!packet.is_cut)
    packet.body = fields.rest();
  return packet;
}

std::string mqtt_reason(MqttVersion version, const MqttPacket& packet) {
  const auto* const known = find_code(version, packet.code);
  auto said = known != nullptr ? std::string(known->meaning)
                               : "code " + std::to_string(static_cast<int>(packet.code));
  return packet.reason.empty() ? said : said + ": " + packet.reason;
}

bool is_passing(MqttVersion version, const MqttPacket& packet) {
  const auto* const known = find_code(version, packet.code);
  return known != nullptr && known->is_passing;
}

bool is_other_version(MqttVersion version, const MqttPacket& packet) {
  return version == MqttVersion::v5 && (packet.code == 0x84 || packet.code == 1);
}

}  // namespace postrider::brokers
