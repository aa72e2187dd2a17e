// Structs to packets.
#include "dns/codec_wire.h"
#include "dns/packet_codec.h"

namespace postrider::dns {

using namespace wire;

namespace {

void put_u16(std::string& out, std::size_t value) {
  out += static_cast<char>(value >> 8U & 0xffU);
  out += static_cast<char>(value & 0xffU);
}

void put_u32(std::string& out, std::uint32_t value) {
  put_u16(out, value >> 16U);
  put_u16(out, value & 0xffffU);
}

void put_name(std::string& out, const Name& name) {
  out += name.wire();
  out += '\0';
}

void put_question(std::string& out, const Question& question) {
  put_name(out, question.name);
  put_u16(out, static_cast<std::uint16_t>(question.type));
  put_u16(out, kClassIn);
}

void put_opt(std::string& out, const std::optional<ExtendedError>& error, std::uint16_t rcode) {
  out += '\0';
  put_u16(out, static_cast<std::uint16_t>(Type::opt));
  put_u16(out, kMostUdp);
  put_u32(out, static_cast<std::uint32_t>(rcode >> 4U) << 24U);
  put_u16(out, error ? 6 + error->text.size() : 0);
  if (!error)
    return;
  put_u16(out, kOptionExtendedError);
  put_u16(out, 2 + error->text.size());
  put_u16(out, error->code);
  out += error->text;
}

struct DataWriter {
  std::string& out;
  void operator()(const OtherData& data) const { out += data.bytes; }
  void operator()(const Address4& address) const { out.append(address.begin(), address.end()); }
  void operator()(const Address6& address) const { out.append(address.begin(), address.end()); }
  void operator()(const Name& name) const { put_name(out, name); }
  void operator()(const MxData& mx) const {
    put_u16(out, mx.preference);
    put_name(out, mx.host);
  }
  void operator()(const TextData& data) const {
    std::string_view left = data.text;
    do {
      const auto part = left.substr(0, 255);
      out += static_cast<char>(part.size());
      out += part;
      left.remove_prefix(part.size());
    } while (!left.empty());
  }
  void operator()(const TlsaData& tlsa) const {
    for (const auto octet : {tlsa.usage, tlsa.selector, tlsa.matching})
      out += static_cast<char>(octet);
    out += tlsa.data;
  }
  void operator()(const SoaData& soa) const {
    put_name(out, soa.primary);
    put_name(out, soa.mailbox);
    for (const auto number : {soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum})
      put_u32(out, number);
  }
};

void put_records(std::string& out, const std::vector<Record>& records) {
  for (const auto& record : records) {
    put_name(out, record.name);
    put_u16(out, static_cast<std::uint16_t>(record.type));
    put_u16(out, kClassIn);
    put_u32(out, record.ttl);
    std::string data;
    std::visit(DataWriter{data}, record.data);
    put_u16(out, data.size());
    out += data;
  }
}

}  // namespace

std::string encode_query(std::uint16_t id, const Question& question, bool edns) {
  std::string out;
  out.reserve(12 + question.name.wire().size() + 5 + 11);
  put_u16(out, id);
  put_u16(out, kRecursionDesired | kAuthentic);
  for (const int count : {1, 0, 0, edns ? 1 : 0})
    put_u16(out, static_cast<std::size_t>(count));
  put_question(out, question);
  if (edns)
    put_opt(out, std::nullopt, 0);
  return out;
}

std::string encode(const Message& message) {
  std::string out;
  const auto rcode = static_cast<std::uint16_t>(message.rcode);
  const bool edns = message.has_edns || message.extended_error || rcode > kRcode;
  put_u16(out, message.id);
  put_u16(out, static_cast<std::size_t>((message.is_response ? kResponse : 0) |
                                        (message.authoritative ? kAuthoritative : 0) |
                                        (message.truncated ? kTruncated : 0) |
                                        (message.recursion_available ? kRecursionAvailable : 0) |
                                        (message.authentic ? kAuthentic : 0) | kRecursionDesired |
                                        (rcode & kRcode)));
  put_u16(out, message.question ? 1 : 0);
  put_u16(out, message.answers.size());
  put_u16(out, message.authority.size());
  put_u16(out, edns ? 1 : 0);
  if (message.question)
    put_question(out, *message.question);
  put_records(out, message.answers);
  put_records(out, message.authority);
  if (edns)
    put_opt(out, message.extended_error, rcode);
  return out;
}

}  // namespace postrider::dns
