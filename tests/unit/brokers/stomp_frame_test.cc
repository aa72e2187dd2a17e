#include "brokers/stomp_frame.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;
using namespace postrider::brokers;
using namespace std::string_literals;

namespace {

// What a reader gives of these octets when they come as they are, and octet by octet.
std::vector<StompFrame> read_all(const std::string& bytes, boost::system::error_code& code) {
  std::vector<StompFrame> found;
  StompReader whole;
  whole.feed(bytes);
  code = {};
  for (;;) {
    auto frame = whole.next();
    if (!frame)
      code = frame.error().code();
    if (!frame || !*frame)
      break;
    found.push_back(**std::move(frame));
  }
  StompReader slow;
  std::size_t seen = 0;
  boost::system::error_code slow_code;
  for (const char c : bytes) {
    slow.feed(std::string_view(&c, 1));
    auto frame = slow.next();
    if (!frame) {
      slow_code = frame.error().code();
      break;
    }
    if (*frame) {
      REQUIRE(seen < found.size());
      CHECK((**frame).body == found[seen].body);
      CHECK((**frame).headers == found[seen++].headers);
    }
  }
  CHECK(seen == found.size());
  CHECK(slow_code == code);
  return found;
}

boost::system::error_code code_of(const std::string& bytes) {
  boost::system::error_code code;
  read_all(bytes, code);
  return code;
}

}  // namespace

TEST_CASE("a frame is written as STOMP 1.2 has it", "[stomp]") {
  CHECK(encode({"SEND", {{"destination", "/queue/a"}, {"x:y", "1\r\n\\2"}}, "{}"}) ==
        "SEND\ndestination:/queue/a\nx\\cy:1\\r\\n\\\\2\ncontent-length:2\n\n{}\0"s);
  CHECK(encode({"DISCONNECT", {}, ""}) == "DISCONNECT\n\n\0"s);
}

TEST_CASE("the values of CONNECT are not escaped, and cannot add a header", "[stomp]") {
  CHECK(encode({"CONNECT", {{"login", "a\\b"}, {"passcode", "x\nlogin:root\r"}}, ""}) ==
        "CONNECT\nlogin:a\\b\npasscode:xloginroot\n\n\0"s);
}

TEST_CASE("frames are read in any pieces, with line ends of both kinds between them", "[stomp]") {
  boost::system::error_code code;
  const auto found = read_all(
      "\n\r\nCONNECTED\r\nversion:1.2\r\nserver:a\\b\r\n\r\n\0\nRECEIPT\nreceipt-id:a\\c1\n\n\0"
      "MESSAGE\ncontent-length:3\n\na\0b\0\n\nERROR\nmessage:one\nmessage:two\n\nwhy\nthis\0\n"s,
      code);
  CHECK_FALSE(code);
  REQUIRE(found.size() == 4);
  CHECK(found[0].command == "CONNECTED");
  CHECK(found[0].header("version") == "1.2");
  CHECK(found[0].header("server") == "a\\b");
  CHECK(found[0].header("absent").empty());
  CHECK(found[1].header("receipt-id") == "a:1");
  CHECK(found[2].body == "a\0b"s);
  CHECK(found[3].header("message") == "one");
  CHECK(found[3].body == "why\nthis");
}

TEST_CASE("what was written is read back", "[stomp]") {
  const StompFrame frame{
      "SEND", {{"a:b", "\\c\n\r\\\\"}, {"content-type", "x/y; z=\":\""}}, "\0\n\n\0:x"s};
  boost::system::error_code code;
  const auto found = read_all(encode(frame) + "\n" + encode(frame), code);
  CHECK_FALSE(code);
  REQUIRE(found.size() == 2);
  auto headers = frame.headers;
  headers.emplace_back("content-length", std::to_string(frame.body.size()));
  for (const auto& one : found) {
    CHECK(one.command == frame.command);
    CHECK(one.headers == headers);
    CHECK(one.body == frame.body);
  }
}

TEST_CASE("what is no frame is malformed", "[stomp]") {
  for (const auto& bytes :
       {"MESSAGE\nno colon\n\n\0"s, "MESSAGE\n:value\n\n\0"s, "MESSAGE\na:\\t\n\n\0"s,
        "MESSAGE\na:\\\n\n\0"s, "MESSAGE\n\\x:a\n\n\0"s, "MESSAGE\ncontent-length:x\n\n\0"s,
        "MESSAGE\ncontent-length:-1\n\n\0"s, "MESSAGE\ncontent-length:2\n\nabc\0"s,
        "MESS\0AGE\n\n\0"s, "message\n\n\0"s, "MESSAGE \n\n\0"s, "\0\n\n\0"s}) {
    INFO(bytes);
    CHECK(code_of(bytes) == Errc::malformed);
  }
}

TEST_CASE("a broker that never ends its frame is refused", "[stomp]") {
  const auto header = "a:" + std::string(100, 'x') + "\n";
  std::string many = "MESSAGE\n";
  for (std::size_t i = 0; i <= StompReader::kMostHeaders; ++i)
    many += "a:b\n";
  const std::string long_line(StompReader::kMostHead + 1, 'x');
  for (const auto& bytes :
       {many, long_line, "MESSAGE\n" + long_line,
        "MESSAGE\n\n" + std::string(StompReader::Limits().body + 1, 'x'),
        "MESSAGE\ncontent-length:" + std::to_string(StompReader::Limits().body + 1) + "\n\n"}) {
    INFO(bytes.substr(0, 40));
    StompReader reader;
    reader.feed(bytes);
    const auto frame = reader.next();
    REQUIRE_FALSE(frame.has_value());
    CHECK(frame.error().code() == Errc::too_long);
  }
  StompReader reader;
  reader.feed("MESSAGE\ncontent-length:" + std::to_string(StompReader::Limits().body) + "\n\n" +
              std::string(StompReader::Limits().body, 'x') + '\0');
  const auto frame = reader.next();
  REQUIRE((frame.has_value() && frame->has_value()));
  CHECK((**frame).body.size() == StompReader::Limits().body);
}

// Otherwise the broker would give the same message again, before all others, for ever.
TEST_CASE("headers beyond what is kept are left out where that is asked for", "[stomp]") {
  const std::string long_line = "long:" + std::string(5 * StompReader::kMostHead, 'x') + "\n";
  std::string many;
  for (int i = 0; i < 5000; ++i)
    many += "n" + std::to_string(i) + ":value\n";
  const std::string needed = "ack:7\r\ncontent-length:2\nmessage-id:m\nack:8\n";
  for (const auto& bytes : {"MESSAGE\na:b\n" + long_line + needed, "MESSAGE\na:b\n" + many + needed,
                            "MESSAGE\na:b\n" + needed + many + long_line + "z:y\n"})
    for (const std::size_t piece : {std::size_t{1} << 20U, std::size_t{1000}}) {
      StompReader reader({64, true});
      const auto all = bytes + "\nhi\0RECEIPT\nr:1\n\n\0"s;
      std::vector<StompFrame> found;
      for (std::size_t at = 0; at < all.size(); at += piece) {
        reader.feed(std::string_view(all).substr(at, piece));
        for (auto frame = reader.next();; frame = reader.next()) {
          REQUIRE(frame.has_value());
          if (!*frame)
            break;
          found.push_back(**std::move(frame));
        }
      }
      REQUIRE(found.size() == 2);
      CHECK(found[0].header("a") == "b");
      CHECK(found[0].header("ack") == "7");
      CHECK(found[0].header("message-id") == "m");
      CHECK(found[0].header("long").empty());
      CHECK(found[0].body == "hi");
      CHECK(found[0].headers.size() <= StompReader::kMostHeaders + 3);
      CHECK(found[1].command == "RECEIPT");
      CHECK(found[1].header("r") == "1");
    }
  StompReader endless({64, true});
  endless.feed("MESSAGE\n");
  bool is_refused = false;
  std::size_t fed = 0;
  for (; !is_refused && fed < 2 * StompReader::kMostCutHead; fed += long_line.size()) {
    endless.feed(long_line);
    is_refused = !endless.next().has_value();
  }
  CHECK(is_refused);
}

TEST_CASE("a body that is too long is thrown away where that is asked for", "[stomp]") {
  for (const auto* length : {"content-length:9\n", ""}) {
    INFO(length);
    StompReader reader({8, true});
    const auto bytes = "MESSAGE\n" + std::string(length) + "a:b\n\n123456789\0\nRECEIPT\n\n\0"s +
                       "MESSAGE\n\n12345678\0"s;
    std::vector<StompFrame> found;
    for (const char c : bytes) {
      reader.feed(std::string_view(&c, 1));
      auto frame = reader.next();
      REQUIRE(frame.has_value());
      if (*frame)
        found.push_back(**std::move(frame));
    }
    REQUIRE(found.size() == 3);
    CHECK((found[0].is_cut && found[0].body.empty()));
    CHECK(found[0].header("a") == "b");
    CHECK(found[1].command == "RECEIPT");
    CHECK_FALSE(found[1].is_cut);
    CHECK((!found[2].is_cut && found[2].body == "12345678"));
  }
}
