// Packets to structs.
#include "dns/packet_codec.h"

#include "base/text.h"
#include "dns/codec_wire.h"
#include "dns/packet_reader.h"

namespace postrider::dns {

using namespace wire;

namespace {

using Counts = std::array<std::uint16_t, 4>;  // question, answer, authority, additional

bool read_header(PacketReader& in, Message& message, Counts& counts) {
  std::uint16_t flags = 0;
  if (!in.u16(message.id) || !in.u16(flags))
    return false;
  for (auto& count : counts)
    if (!in.u16(count))
      return false;
  message.is_response = (flags & kResponse) != 0;
  message.authoritative = (flags & kAuthoritative) != 0;
  message.truncated = (flags & kTruncated) != 0;
  message.recursion_available = (flags & kRecursionAvailable) != 0;
  message.authentic = (flags & kAuthentic) != 0;
  message.rcode = static_cast<Rcode>(flags & kRcode);
  return true;
}

bool read_question(PacketReader& in, Message& message, std::uint16_t count) {
  if (count == 0)
    return true;
  std::uint16_t type = 0, klass = 0;
  Question question;
  if (count > 1 || !in.name(question.name) || !in.u16(type) || !in.u16(klass))
    return false;
  question.type = static_cast<Type>(type);
  message.question = std::move(question);
  return klass == kClassIn;
}

bool read_text(PacketReader& in, std::size_t end, std::string& text) {
  std::string_view part;
  std::uint8_t size = 0;
  do {
    if (!in.u8(size) || in.at() + size > end || !in.bytes(size, part))
      return false;
    text += part;
  } while (in.at() < end);
  return true;
}

// Shorter than its three fixed octets it cannot match anything, but it does say that there is a
// record: an unusable one, which is not the same as none (RFC 7672 section 2.2; attack D02).
bool read_tlsa(PacketReader& in, std::uint16_t size, TlsaData& tlsa) {
  std::string_view data;
  if (!in.bytes(size, data))
    return false;
  tlsa.usage = tlsa.selector = tlsa.matching = 0xff;
  if (data.size() < 3)
    return true;
  tlsa.usage = static_cast<std::uint8_t>(data[0]);
  tlsa.selector = static_cast<std::uint8_t>(data[1]);
  tlsa.matching = static_cast<std::uint8_t>(data[2]);
  tlsa.data = data.substr(3);
  return true;
}

bool read_soa(PacketReader& in, SoaData& soa) {
  return in.name(soa.primary) && in.name(soa.mailbox) && in.u32(soa.serial) &&
         in.u32(soa.refresh) && in.u32(soa.retry) && in.u32(soa.expire) && in.u32(soa.minimum);
}

template <std::size_t size>
bool read_address(PacketReader& in, std::array<std::uint8_t, size>& address) {
  for (auto& octet : address)
    if (!in.u8(octet))
      return false;
  return true;
}

// Reads RDATA at the reader's place. The caller checks that it ended where the length says.
bool read_data(PacketReader& in, Type type, std::uint16_t size, Data& data) {
  switch (type) {
    case Type::a:
      return read_address(in, data.emplace<Address4>());
    case Type::aaaa:
      return read_address(in, data.emplace<Address6>());
    case Type::mx: {
      auto& mx = data.emplace<MxData>();
      return in.u16(mx.preference) && in.name(mx.host);
    }
    case Type::cname:
    case Type::dname:
    case Type::ns:
    case Type::ptr:
      return in.name(data.emplace<Name>());
    case Type::txt:
      return read_text(in, in.at() + size, data.emplace<TextData>().text);
    case Type::tlsa:
      return read_tlsa(in, size, data.emplace<TlsaData>());
    case Type::soa:
      return read_soa(in, data.emplace<SoaData>());
    default:
      break;
  }
  std::string_view bytes;
  if (!in.bytes(size, bytes))
    return false;
  data.emplace<OtherData>().bytes = bytes;
  return true;
}

struct RecordHead {
  Name name;
  std::uint16_t type = 0, klass = 0, size = 0;
  std::uint32_t ttl = 0;
};

bool read_record_head(PacketReader& in, RecordHead& head) {
  return in.name(head.name) && in.u16(head.type) && in.u16(head.klass) && in.u32(head.ttl) &&
         in.u16(head.size) && in.left() >= head.size;
}

bool read_records(PacketReader& in, std::uint16_t count, std::vector<Record>& records) {
  for (; count > 0; --count) {
    RecordHead head;
    if (!read_record_head(in, head))
      return false;
    const std::size_t end = in.at() + head.size;
    if (head.klass != kClassIn) {
      in.move_to(end);
      continue;
    }
    Record record;
    record.name = std::move(head.name);
    record.type = static_cast<Type>(head.type);
    record.ttl = head.ttl;
    if (!read_data(in, record.type, head.size, record.data) || in.at() != end)
      return false;
    records.push_back(std::move(record));
  }
  return true;
}

bool read_options(PacketReader& in, std::size_t end, Message& message) {
  while (in.at() < end) {
    std::uint16_t code = 0, size = 0;
    std::string_view value;
    if (!in.u16(code) || !in.u16(size) || in.at() + size > end || !in.bytes(size, value))
      return false;
    if (code != kOptionExtendedError || value.size() < 2)
      continue;
    PacketReader reason(value);
    ExtendedError error;
    if (reason.u16(error.code))
      error.text = value.substr(2);
    message.extended_error = std::move(error);
  }
  return in.at() == end;
}

bool read_additional(PacketReader& in, std::uint16_t count, Message& message) {
  for (; count > 0; --count) {
    RecordHead head;
    if (!read_record_head(in, head))
      return false;
    const std::size_t end = in.at() + head.size;
    if (static_cast<Type>(head.type) == Type::opt) {
      if (message.has_edns || !read_options(in, end, message))  // RFC 6891: one at most
        return false;
      message.has_edns = true;
      const auto high = static_cast<std::uint16_t>((head.ttl >> 24U) << 4U);
      message.rcode = static_cast<Rcode>(high | static_cast<std::uint16_t>(message.rcode));
    }
    in.move_to(end);
  }
  return true;
}

}  // namespace

bool is_answer_to(std::string_view query, std::string_view packet) {
  constexpr std::size_t kHeader = 12, kAfterName = 5;  // the final zero, type and class
  if (packet.size() < kHeader || packet.substr(0, 2) != query.substr(0, 2))
    return false;
  PacketReader in(packet.substr(2));
  std::uint16_t flags = 0, questions = 0;
  if (!in.u16(flags) || !in.u16(questions) || (flags & kResponse) == 0 || (flags & kOpcode) != 0)
    return false;
  if (questions == 0)
    return (flags & kRcode) != static_cast<std::uint16_t>(Rcode::no_error) &&
           (flags & kRcode) != static_cast<std::uint16_t>(Rcode::name_error);
  std::size_t name_end = kHeader;
  while (query[name_end] != '\0')
    name_end += 1U + static_cast<unsigned char>(query[name_end]);
  const std::size_t size = name_end - kHeader + kAfterName;
  return questions == 1 && packet.size() >= kHeader + size &&
         equals_ignoring_case(packet.substr(kHeader, name_end - kHeader),
                              query.substr(kHeader, name_end - kHeader)) &&
         packet.substr(name_end, kAfterName) == query.substr(name_end, kAfterName);
}

Result<Message> decode(std::string_view packet) {
  if (packet.size() > kMostMessage)
    return malformed("read DNS packet: too long");
  PacketReader in(packet);
  Message message;
  Counts counts{};
  if (!read_header(in, message, counts))
    return malformed("read DNS header");
  if (!read_question(in, message, counts[0]))
    return malformed("read DNS question");
  if (message.truncated)
    return message;
  if (!read_records(in, counts[1], message.answers))
    return malformed("read DNS answer section");
  if (!read_records(in, counts[2], message.authority))
    return malformed("read DNS authority section");
  if (!read_additional(in, counts[3], message))
    return malformed("read DNS additional section");
  return message;
}

}  // namespace postrider::dns
