// The scripts of FakeDnsServer, and records from zone text.
#include "base/text.h"
#include "tests/support/fake_dns_server.h"

#include <algorithm>
#include <memory>
#include <sstream>
#include <stdexcept>

namespace postrider::tests {

namespace {

dns::SoaData to_soa(std::istringstream& in) {
  dns::SoaData soa;
  std::string primary, mailbox;
  in >> primary >> mailbox >> soa.serial >> soa.refresh >> soa.retry >> soa.expire >> soa.minimum;
  soa.primary = name(primary);
  soa.mailbox = name(mailbox);
  return soa;
}

dns::TlsaData to_tlsa(std::istringstream& in) {
  unsigned usage = 0, selector = 0, matching = 0;
  std::string hex;
  in >> usage >> selector >> matching >> hex;
  dns::TlsaData tlsa;
  tlsa.usage = static_cast<std::uint8_t>(usage);
  tlsa.selector = static_cast<std::uint8_t>(selector);
  tlsa.matching = static_cast<std::uint8_t>(matching);
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    tlsa.data += static_cast<char>(std::stoul(hex.substr(i, 2), nullptr, 16));
  return tlsa;
}

struct Parsed {
  dns::Type type;
  dns::Data data;
};

Parsed parse_data(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::string type, value;
  in >> type >> std::ws;
  if (type == "SOA")
    return {dns::Type::soa, to_soa(in)};
  if (type == "TLSA")
    return {dns::Type::tlsa, to_tlsa(in)};
  if (type == "MX") {
    dns::MxData mx;
    in >> mx.preference >> value;
    mx.host = name(value);
    return {dns::Type::mx, mx};
  }
  std::getline(in, value);
  if (type == "A")
    return {dns::Type::a, asio::ip::make_address_v4(value).to_bytes()};
  if (type == "AAAA")
    return {dns::Type::aaaa, asio::ip::make_address_v6(value).to_bytes()};
  if (type == "TXT")
    return {dns::Type::txt, dns::TextData{value.substr(1, value.size() - 2)}};
  static const std::map<std::string, dns::Type> kNames = {{"CNAME", dns::Type::cname},
                                                          {"DNAME", dns::Type::dname},
                                                          {"NS", dns::Type::ns},
                                                          {"PTR", dns::Type::ptr}};
  return {kNames.at(type), name(value)};
}

void patch_id(std::string& packet, std::string_view query) {
  for (std::size_t i = 0; i < 2 && i < packet.size(); ++i)
    packet[i] = query[i];
}

}  // namespace

dns::Name name(std::string_view text) {
  if (text == ".")
    return {};
  auto parsed = dns::Name::from_text(text);
  if (!parsed)
    throw std::invalid_argument("no name: " + std::string(text));
  return *parsed;
}

dns::Record record(std::string_view owner, std::uint32_t ttl, std::string_view data) {
  auto parsed = parse_data(data);
  dns::Record made;
  made.name = name(owner);
  made.ttl = ttl;
  made.type = parsed.type;
  made.data = std::move(parsed.data);
  return made;
}

Script says(dns::Message message) {
  return [message](const Asked& asked) {
    dns::Message reply = message;
    reply.id = asked.message.id;
    reply.is_response = true;
    reply.recursion_available = true;
    reply.question = asked.message.question;
    return std::vector<Packet>{dns::encode(reply)};
  };
}

Script answers(std::vector<dns::Record> records) {
  return answers(std::move(records), {});
}

Script answers(std::vector<dns::Record> records, std::vector<dns::Record> authority) {
  dns::Message message;
  message.answers = std::move(records);
  message.authority = std::move(authority);
  return says(std::move(message));
}

Script fails(dns::Rcode code) {
  dns::Message message;
  message.rcode = code;
  return says(std::move(message));
}

Script nothing() {
  return [](const Asked&) { return std::vector<Packet>(); };
}

Script bytes(std::string packet) {
  return [packet](const Asked& asked) {
    std::string reply = packet;
    patch_id(reply, asked.packet);
    return std::vector<Packet>{reply};
  };
}

Script from_another_port(Script script) {
  return [script](const Asked& asked) {
    auto packets = script(asked);
    for (auto& packet : packets)
      packet.from_other_port = true;
    return packets;
  };
}

Script unframed(Script script) {
  return [script](const Asked& asked) {
    auto packets = script(asked);
    for (auto& packet : packets)
      packet.unframed = true;
    return packets;
  };
}

Script truncated(Script over_tcp) {
  dns::Message message;
  message.truncated = true;
  return [over_tcp, over_udp = says(std::move(message))](const Asked& asked) {
    return asked.over_tcp ? over_tcp(asked) : over_udp(asked);
  };
}

Script with_wrong_id(Script script) {
  return [script](const Asked& asked) {
    auto packets = script(asked);
    for (auto& packet : packets)
      packet.bytes[1] = static_cast<char>(packet.bytes[1] ^ 1);
    return packets;
  };
}

Script with_wrong_question(Script script) {
  return [script](const Asked& asked) {
    Asked other = asked;
    other.message.question->name = name("other.test");
    return script(other);
  };
}

Script one_after_another(std::vector<Script> scripts) {
  return [scripts](const Asked& asked) {
    std::vector<Packet> all;
    for (const auto& script : scripts)
      for (const auto& packet : script(asked))
        all.push_back(packet);
    return all;
  };
}

Script in_turn(std::vector<Script> scripts) {
  return [scripts, next = std::make_shared<std::size_t>(0)](const Asked& asked) {
    const std::size_t which = std::min(*next, scripts.size() - 1);
    ++*next;
    return scripts[which](asked);
  };
}

}  // namespace postrider::tests
