#include "dns/packet_codec.h"
#include "tests/support/fake_dns_server.h"

#include <catch2/catch.hpp>

namespace postrider::dns {

using namespace std::literals;
using tests::name;
using tests::record;

namespace {

Question question(std::string_view text, Type type) {
  Question made;
  made.name = name(text);
  made.type = type;
  return made;
}

std::string number(std::size_t value) {
  return {static_cast<char>(value >> 8U & 0xffU), static_cast<char>(value & 0xffU)};
}

// A response about "mx a.test" whose question name stands at offset 12.
std::string response(std::uint16_t answers, const std::string& body) {
  return "\0\1\x84\0\0\1"s + number(answers) + "\0\0\0\0\1a\4test\0\0\x0f\0\1"s + body;
}

// One answer: owner a.test by pointer, class IN, 300 s.
std::string answer(std::uint16_t type, const std::string& data) {
  return "\xc0\x0c"s + number(type) + "\0\1\0\0\1\x2c"s + number(data.size()) + data;
}

constexpr std::uint16_t kMx = 15, kTxt = 16, kTlsa = 52, kCname = 5, kA = 1;

}  // namespace

TEST_CASE("a query asks for recursion, AD and at most 1232 octets", "[dns][codec]") {
  CHECK(encode_query(0x1234, question("a.test", Type::mx)) ==
        "\x12\x34\1\x20\0\1\0\0\0\0\0\1\1a\4test\0\0\x0f\0\1\0\0\x29\4\xd0\0\0\0\0\0\0"s);
  CHECK(encode_query(1, question("a.test", Type::mx), false) ==
        "\0\1\1\x20\0\1\0\0\0\0\0\0\1a\4test\0\0\x0f\0\1"s);
}

TEST_CASE("a message is the same after it was written and read", "[dns][codec]") {
  Message message;
  message.id = 4711;
  message.is_response = message.authentic = message.authoritative = true;
  message.recursion_available = true;
  message.rcode = static_cast<Rcode>(23);  // needs EDNS
  message.question = question("a.test", Type::mx);
  message.answers = {record("a.test", 1, "MX 10 b.test"),
                     record("a.test", 2, "A 192.0.2.1"),
                     record("a.test", 3, "AAAA 2001:db8::1"),
                     record("a.test", 4, "CNAME c.test"),
                     record("a.test", 5, "TXT \"" + std::string(300, 'x') + "\""),
                     record("a.test", 6, "TLSA 3 1 1 00ff"),
                     record("a.test", 7, "MX 0 .")};
  message.authority = {record("test", 8, "SOA a.test b.test 1 2 3 4 5")};
  message.extended_error = ExtendedError{9, "why"};
  const auto packet = encode(message);
  const auto read = decode(packet);
  REQUIRE(read.has_value());
  CHECK(encode(*read) == packet);
  CHECK(read->rcode == message.rcode);
  CHECK(read->authentic);
  CHECK(std::get<MxData>(read->answers[0].data).host == name("b.test"));
  CHECK(std::get<TextData>(read->answers[4].data).text == std::string(300, 'x'));
  CHECK(std::get<MxData>(read->answers[6].data).host.is_root());
  CHECK(std::get<SoaData>(read->authority[0].data).minimum == 5);
  CHECK(describe(*read->extended_error) == "EDE 9 DNSKEY Missing: why");
}

TEST_CASE("compressed names expand, in the owner and in the data", "[dns][codec]") {
  const auto read =
      decode(response(2, answer(kMx, "\0\x0a\2mx\xc0\x0c"s) + answer(kMx, "\0\x14\2my\xc0\x0e"s)));
  REQUIRE(read.has_value());
  REQUIRE(read->answers.size() == 2);
  CHECK(read->answers[0].name == name("a.test"));
  CHECK(std::get<MxData>(read->answers[0].data).host == name("mx.a.test"));
  CHECK(std::get<MxData>(read->answers[1].data).host == name("my.test"));
}

TEST_CASE("D01 a malformed packet is refused as a whole", "[dns][codec][attack]") {
  struct Case {
    std::string name;
    std::string packet;
  };
  const std::string label63 = "\x3f" + std::string(63, 'l');
  const std::vector<Case> cases = {
      {"nothing", ""},
      {"half a header", "\0\1\x84\0\0\1"s},
      {"a header that promises a question", "\0\1\x84\0\0\1\0\0\0\0\0\0"s},
      {"two questions", "\0\1\x84\0\0\2\0\0\0\0\0\0\1a\0\0\x0f\0\1\1a\0\0\x0f\0\1"s},
      {"a question of class CH", "\0\1\x84\0\0\1\0\0\0\0\0\0\1a\0\0\x0f\0\3"s},
      {"65,535 answers without data", response(65535, "")},
      {"65,535 answers with one", response(65535, answer(kMx, "\0\1\1b\0"s))},
      {"MX data of 0 octets", response(1, answer(kMx, ""))},
      {"MX data of 1 octet", response(1, answer(kMx, "\0"s))},
      {"MX data of 2 octets", response(1, answer(kMx, "\0\1"s))},
      {"MX data longer than its name", response(1, answer(kMx, "\0\1\1b\0x"s))},
      {"MX data shorter than its name", response(1, answer(kMx, "\0\1\7abc"s) + "defghij\0"s)},
      {"data past the end", response(1, "\xc0\x0c\0\x0f\0\1\0\0\0\1\xff\xff\0\1\1b\0"s)},
      {"an answer without data length", response(1, "\xc0\x0c\0\x0f\0\1\0\0\0\1"s)},
      {"a pointer to itself", response(1, answer(kMx, "\0\1\xc0\x27"s))},
      {"a pointer loop over a label", response(1, answer(kMx, "\0\1\1b\xc0\x27"s))},
      {"a pointer forward", response(1, answer(kMx, "\0\1\xc0\x29\1b\0"s))},
      {"a pointer past the end", response(1, answer(kMx, "\0\1\xff\xff"s))},
      {"half a pointer", response(1, answer(kMx, "\0\1\xc0"s))},
      {"a label of 64", response(1, answer(kMx, "\0\1\x40" + std::string(64, 'l') + "\0"s))},
      {"a label of type 10", response(1, answer(kMx, "\0\1\x81z\0"s))},
      {"a name of 257 octets",
       response(1, answer(kMx, "\0\1"s + label63 + label63 + label63 + label63 + "\0"s))},
      {"an address of 3 octets", response(1, answer(kA, "\1\2\3"))},
      {"an address of 5 octets", response(1, answer(kA, "\1\2\3\4\5"))},
      {"a text of no strings", response(1, answer(kTxt, ""))},
      {"a text longer than its data", response(1, answer(kTxt, "\5abc"s))},
      {"an alias of nothing", response(1, answer(kCname, ""))},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      CHECK_FALSE(decode(c.packet).has_value());
    }
  }
}

TEST_CASE("D01 every prefix and every flipped octet of a good packet is read safely",
          "[dns][codec][attack]") {
  Message message;
  message.is_response = true;
  message.question = question("a.test", Type::mx);
  message.answers = {record("a.test", 1, "MX 10 b.test"), record("a.test", 6, "TLSA 3 1 1 00ff"),
                     record("a.test", 5, "TXT \"abc\"")};
  message.authority = {record("test", 8, "SOA a.test b.test 1 2 3 4 5")};
  message.extended_error = ExtendedError{6, "x"};
  const auto packet = encode(message);
  for (std::size_t size = 0; size < packet.size(); ++size)
    CHECK_FALSE(decode(packet.substr(0, size)).has_value());
  for (std::size_t at = 0; at < packet.size(); ++at)
    for (const int octet : {0, 1, 0x3f, 0x40, 0xc0, 0xff}) {
      auto changed = packet;
      changed[at] = static_cast<char>(octet);
      const auto read = decode(changed);
      if (read)
        (void)encode(*read);
    }
}

TEST_CASE("D01 a chain of pointers ends within its limit", "[dns][codec][attack]") {
  // Pointers, each to the one before: legal, but nobody needs 200 of them.
  std::string body;
  const std::size_t start = response(1, "").size() + 12;  // of the data
  std::string data = "\1x\xc0\x0c"s;
  std::size_t last = start;
  for (int i = 0; i < 200; ++i) {
    const std::size_t here = start + data.size();
    data += number(0xc000U | last);
    last = here;
  }
  body = answer(250, data) + "\xc0"s + static_cast<char>(last & 0xffU);
  std::string far =
      response(2, answer(250, data) + number(0xc000U | last) + "\0\1\0\1\0\0\0\1\0\0"s);
  CHECK_FALSE(decode(far).has_value());
}

TEST_CASE("D02 a short TLSA record is unusable, not absent and not fatal", "[dns][codec][attack]") {
  for (const std::size_t size : {0U, 1U, 2U, 3U, 19U, 35U, 60000U}) {
    DYNAMIC_SECTION(size << " octets") {
      const auto read = decode(response(1, answer(kTlsa, std::string(size, '\3'))));
      REQUIRE(read.has_value());
      const auto& tlsa = std::get<TlsaData>(read->answers.at(0).data);
      CHECK(tlsa.usage == (size < 3 ? 255 : 3));
      CHECK(tlsa.data.size() == (size < 3 ? 0 : size - 3));
    }
  }
}

TEST_CASE("D10 only the answer to our question is an answer", "[dns][codec][attack]") {
  const auto asked = question("Mx.test", Type::mx);
  const auto query = encode_query(7, asked);
  Message reply;
  reply.id = 7;
  reply.is_response = true;
  reply.question = asked;
  const auto good = encode(reply);
  CHECK(is_answer_to(query, good));

  auto mixed = good;
  mixed[13] = 'M';
  CHECK(is_answer_to(query, mixed));
  CHECK_FALSE(is_answer_to(query, query));
  reply.id = 8;
  CHECK_FALSE(is_answer_to(query, encode(reply)));
  reply.id = 7;
  reply.question = question("mx.test", Type::a);
  CHECK_FALSE(is_answer_to(query, encode(reply)));
  reply.question = question("mx.tesu", Type::mx);
  CHECK_FALSE(is_answer_to(query, encode(reply)));
  reply.question = question("mx.test.test", Type::mx);
  CHECK_FALSE(is_answer_to(query, encode(reply)));
  reply.question.reset();
  CHECK_FALSE(is_answer_to(query, encode(reply)));
  reply.rcode = Rcode::name_error;
  CHECK_FALSE(is_answer_to(query, encode(reply)));
  reply.rcode = Rcode::format_error;  // could not read the question
  CHECK(is_answer_to(query, encode(reply)));
  for (std::size_t size = 0; size < 12 + 9 + 4; ++size)
    CHECK_FALSE(is_answer_to(query, good.substr(0, size)));
}

}  // namespace postrider::dns
