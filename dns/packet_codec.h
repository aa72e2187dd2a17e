// DNS packets (RFC 1035, 6891): bytes to structs and back. Pure, and made for hostile bytes: every
// length is checked against the packet, names expand only through pointers that point backwards,
// and one malformed part makes the whole packet malformed. Nothing here judges what a packet means;
// see dns/answer.h.
#pragma once

#include "base/result.h"
#include "dns/name.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace postrider::dns {

enum class Type : std::uint16_t {
  a = 1,
  ns = 2,
  cname = 5,
  soa = 6,
  ptr = 12,
  mx = 15,
  txt = 16,
  aaaa = 28,
  dname = 39,
  opt = 41,
  tlsa = 52,
};
std::string_view type_name(Type type);  // "mx"; "other" for a type without a name here

enum class Rcode : std::uint16_t {
  no_error = 0,
  format_error = 1,
  server_failure = 2,
  name_error = 3,
  not_implemented = 4,
  refused = 5,
};
std::string rcode_name(Rcode code);  // "SERVFAIL", "RCODE 16"

struct Question {
  Name name;
  Type type = Type::a;
};
std::string describe(const Question& question);  // "mx example.org", escaped

struct MxData {
  std::uint16_t preference = 0;
  Name host;
};
struct TlsaData {
  std::uint8_t usage = 0, selector = 0, matching = 0;
  std::string data;
};
struct SoaData {
  Name primary, mailbox;
  std::uint32_t serial = 0, refresh = 0, retry = 0, expire = 0, minimum = 0;
};
struct TextData {
  std::string text;  // the strings of the record, joined
};
struct OtherData {
  std::string bytes;
};
using Address4 = std::array<std::uint8_t, 4>;
using Address6 = std::array<std::uint8_t, 16>;
// Name: of CNAME, DNAME, NS and PTR.
using Data = std::variant<OtherData, Address4, Address6, MxData, Name, TextData, TlsaData, SoaData>;

struct Record {
  Name name;
  Type type = Type::a;
  std::uint32_t ttl = 0;  // as sent
  Data data;
};

// Why a resolver failed (RFC 8914).
struct ExtendedError {
  std::uint16_t code = 0;
  std::string text;  // outside bytes
};
std::string describe(const ExtendedError& error);  // "EDE 6 DNSSEC Bogus: text", escaped

struct Message {
  std::uint16_t id = 0;
  bool is_response = false;
  bool authoritative = false;
  bool truncated = false;
  bool recursion_available = false;
  bool authentic = false;  // the AD bit
  Rcode rcode = Rcode::no_error;
  std::optional<Question> question;
  std::vector<Record> answers, authority;  // of class IN
  std::optional<ExtendedError> extended_error;
  bool has_edns = false;
};

constexpr std::uint16_t kMostUdp = 1232;  // what we say fits (DNS flag day 2020)
constexpr std::size_t kMostMessage = 65535;

// Recursion desired, AD asked for (RFC 6840 section 5.7).
std::string encode_query(std::uint16_t id, const Question& question, bool edns = true);

// Whether `packet` can be the answer to `query`, made by encode_query: id, response bit, opcode and
// question. Letters of the name may differ in case. Servers that could not read the question may
// leave it out of an error.
bool is_answer_to(std::string_view query, std::string_view packet);

// Of a truncated message only header and question are read.
Result<Message> decode(std::string_view packet);

// For test servers. Without compression.
std::string encode(const Message& message);

}  // namespace postrider::dns
