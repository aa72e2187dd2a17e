#include "mail/reply.h"

#include "mail/outcome.h"

#include <catch2/catch.hpp>

#include <vector>

namespace postrider::mail {
namespace {

using namespace std::string_literals;

// What came of the bytes: replies by str(), "more" or the error's code.
std::vector<std::string> read_all(std::string_view bytes, std::size_t piece) {
  ReplyParser parser;
  std::vector<std::string> got;
  for (std::size_t begin = 0; begin < bytes.size(); begin += piece) {
    auto part = bytes.substr(begin, piece);
    while (!part.empty()) {
      std::size_t used = 0;
      auto reply = parser.feed(part, used);
      if (!reply) {
        got.push_back(reply.error().code().message());
        return got;
      }
      part.remove_prefix(used);
      if (*reply)
        got.push_back((*reply)->str());
    }
  }
  return got;
}

using Lines = std::vector<std::string>;

TEST_CASE("enhanced codes are well formed or ignored (I08)", "[mail][reply]") {
  struct Case {
    std::string text;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"5.7.1 no", "5.7.1"},
      {"2.0.0", "2.0.0"},
      {"4.999.999 x", "4.999.999"},
      {"5.99999999999.1 x", ""},
      {"5. x", ""},
      {"5.1 x", ""},
      {"5.1. x", ""},
      {"5.1.1x", ""},
      {"3.1.1 x", ""},
      {"5.1000.1 x", ""},
      {"5.1.1000 x", ""},
      {"5.01.1 x", ""},
      {"55.1.1 x", ""},
      {"", ""},
      {"5", ""},
      {" 5.1.1 x", ""},
      {"5.1.1.1 x", ""},
      {"-5.1.1 x", ""},
      {"5.1.1\tx", "5.1.1"},
      {"5.0.0 x", "5.0.0"},
  };
  for (const auto& c : cases) {
    const auto code = parse_enhanced_code(c.text);
    INFO(c.text);
    CHECK((code ? to_string(*code) : "") == c.want);
  }
}

TEST_CASE("replies are read at any splitting", "[mail][reply]") {
  struct Case {
    std::string name;
    std::string bytes;
    Lines want;
  };
  const std::vector<Case> cases = {
      {"one line", "250 ok\r\n", {"250 ok"}},
      {"LF alone ends a line", "250 ok\n", {"250 ok"}},
      {"several lines", "250-a\r\n250-b\r\n250 c\r\n", {"250 a b c"}},
      {"enhanced code on each line", "550-5.7.1 a\r\n550 5.7.1 b\r\n", {"550 5.7.1 a b"}},
      {"I07: no text", "550\r\n", {"550"}},
      {"I07: a dash without text", "550-\r\n550 x\r\n", {"550  x"}},
      {"I07: injected line", "550-\r\n550 x\ninjected\n", {"550  x", "malformed"}},
      {"I07: two digits", "55\r\n", {"malformed"}},
      {"I07: a letter in the code", "5x0 a\r\n", {"malformed"}},
      {"I07: two replies at once", "250 ok\r\n250 ok\r\n", {"250 ok", "250 ok"}},
      {"I07: NUL, ESC and DEL", "550 a\0b\x1b[2J\x7f\r\n"s, {"550 a?b?[2J?"}},
      {"I07: 8-bit that is not UTF-8", "550 a\xff\xfe\r\n", {"550 a??"}},
      {"UTF-8 stays", "550 gr\xc3\xbc\xc3\x9f\r\n", {"550 gr\xc3\xbc\xc3\x9f"}},
      {"a bare CR within", "550 a\rb\r\n", {"550 a?b"}},
      {"codes differ: the last one counts", "250-a\r\n251 b\r\n", {"251 a b"}},
      {"the last one's enhanced code too", "250-2.0.0 a\r\n550 5.7.1 b\r\n", {"550 5.7.1 a b"}},
      {"and no other's", "550-5.7.1 a\r\n250 b\r\n", {"250 a b"}},
      {"a line without a code between others", "250-a\r\nb\r\n\r\n250 c\r\n", {"250 a b  c"}},
      {"a bare LF in the text", "550-5.7.1 a\nb\r\n550 5.7.1 c\r\n", {"550 5.7.1 a b c"}},
      {"class 1", "150 a\r\n", {"malformed"}},
      {"class 6", "650 a\r\n", {"malformed"}},
      {"no separator", "250ok\r\n", {"250 ok"}},
      {"no separator, a refusal", "550no\r\n", {"550 no"}},
      {"an enhanced code without separator", "250.2.0.0\r\n", {"250 .2.0.0"}},
      {"odd separators", "250\tok\r\n354:go\r\n220_mx\r\n", {"250 ok", "354 :go", "220 _mx"}},
      {"NUL for a separator", "250\0ok\r\n"s, {"250 ?ok"}},
      {"several CR", "250\r\r\n250 ok\r\r\r\n", {"250", "250 ok"}},
      {"LF alone behind a bare code", "250\n", {"250"}},
      {"a space alone", "250 \r\n", {"250"}},
      {"a bare code ends several lines", "250-a\r\n250\r\n", {"250 a "}},
      {"four digits are a year", "2025-11-29 12:00:00 warning\r\n", {"malformed"}},
      {"words that begin like a code",
       "250-you have\r\n250MB\r\n250 in all\r\n",
       {"250 you have 250MB in all"}},
      {"and like another",
       "250-you have\r\n512MB\r\n250 in all\r\n",
       {"250 you have 512MB in all"}},
      {"empty line", "\r\n", {"malformed"}},
      {"I08: success class on a refusal", "550 2.0.0 a\r\n", {"550 2.0.0 a"}},
      {"I08: parts too long", "550 5.99999999999.1 a\r\n", {"550 5.99999999999.1 a"}},
      {"a greeting from HTTP", "HTTP/1.1 400 Bad\r\n", {"malformed"}},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      for (std::size_t piece = 1; piece <= c.bytes.size(); ++piece)
        CHECK(read_all(c.bytes, piece) == c.want);
    }
}

TEST_CASE("what is not a reply is quoted, and cannot move a cursor (I07)", "[mail][reply]") {
  const auto step_of = [](std::string_view bytes) {
    ReplyParser parser;
    std::size_t used = 0;
    const auto reply = parser.feed(bytes, used);
    REQUIRE(reply.has_error());
    return reply.error().step();
  };
  CHECK(step_of("OK 250 taken\r\n") == "\"OK 250 taken\"");
  CHECK(step_of("\r\n") == "\"\"");
  CHECK(step_of("650 \x1b[2J\r\n").find('\x1b') == std::string::npos);
  CHECK(step_of(std::string(3000, 'x') + "\r\n").size() < 300);
}

TEST_CASE("where nothing else can be waited for, noise is read over", "[mail][reply]") {
  struct Case {
    std::string name, bytes, want, noise;
  };
  const std::vector<Case> cases = {
      {"a log's line", "2025-11-29 12:00:00 late\r\n250 ok\r\n", "250 ok", ""},
      {"empty lines", "\r\n\n250 ok\r\n", "250 ok", ""},
      {"no separator behind it", "OK\r\n250ok\r\n", "250 ok", ""},
      {"a refusal behind it", "oops\r\n451 4.3.0 later\r\n", "451 4.3.0 later", ""},
      {"nothing behind it", "OK taken\r\nas 12\r\n", "", "\"OK taken\""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      for (std::size_t piece = 1; piece <= c.bytes.size(); ++piece) {
        ReplyParser parser;
        std::string got;
        for (std::size_t at = 0; at < c.bytes.size(); at += piece) {
          std::size_t used = 0;
          const auto reply = parser.feed(std::string_view(c.bytes).substr(at, piece), used,
                                         ReplyParser::Noise::read_over);
          REQUIRE(reply.has_value());
          if (*reply)
            got += (*reply)->str();
        }
        CHECK(got == c.want);
        CHECK(parser.noise() == c.noise);
      }
    }
}

TEST_CASE("noise without end is refused", "[mail][reply]") {
  ReplyParser parser;
  const std::string line = std::string(1000, 'x') + "\r\n";
  std::size_t used = 0, lines = 0;
  while (parser.feed(line, used, ReplyParser::Noise::read_over).has_value())
    REQUIRE(++lines < 20000);
  CHECK(parser.noise().size() < 300);
}

TEST_CASE("of a reply that breaks off its code is known", "[mail][reply]") {
  struct Case {
    std::string bytes, want;
  };
  const std::vector<Case> cases = {
      {"", "none"},
      {"2", "none"},
      {"25", "none"},
      {"250", "250"},
      {"250\r", "250"},
      {"250 2.0.0 take", "250 2.0.0 take"},
      {"250OK", "250 OK"},
      {"250-a\r\n", "250 a"},
      {"250-a\r\n2", "250 a"},
      {"250-a\r\nwords", "none"},
      {"250-a\r\n250-b", "250 a b"},
      {"250-a\r\n5", "none"},
      {"250-a\r\n550", "550 a "},
      {"250-a\r\n250b\r\n", "250 a 250b"},
      {"550-5.7.1 a\r\n", "550 5.7.1 a"},
      {"2025", "none"},
      {"OK\r\n", "none"},
      {"OK\r\n250 x", "250 x"},
      {"250 whole\r\n", "none"},
  };
  for (const auto& c : cases) {
    INFO(c.bytes);
    ReplyParser parser;
    std::size_t used = 0;
    const auto read = parser.feed(c.bytes, used, ReplyParser::Noise::read_over);
    REQUIRE(read.has_value());
    const auto known = parser.unfinished();
    CHECK((known ? known->str() : "none") == c.want);
  }
}

TEST_CASE("I08: only an enhanced code of the reply's class counts", "[mail][reply]") {
  const auto code_in = [](std::string_view bytes) {
    ReplyParser parser;
    std::size_t used = 0;
    return to_string((*parser.feed(bytes, used))->enhanced);
  };
  CHECK(code_in("550 5.1.1 x\r\n") == "5.1.1");
  CHECK(code_in("550 2.0.0 x\r\n").empty());
  CHECK(code_in("450 5.1.1 x\r\n").empty());
  CHECK(code_in("550 5.1 x\r\n").empty());
}

TEST_CASE("I07, X08: a reply is bounded", "[mail][reply]") {
  SECTION("a long line is cut") {
    const auto got = read_all("250 " + std::string(20000, 'x') + "\r\n", 1000);
    REQUIRE(got.size() == 1);
    CHECK(got[0].size() == 4096);
  }
  SECTION("many lines are cut") {
    std::string bytes;
    for (int i = 0; i < 1000; ++i)
      bytes.append("250-line\r\n");
    const auto got = read_all(bytes + "250 end\r\n", 4096);
    REQUIRE(got.size() == 1);
    CHECK(got[0].size() == 4 + 100 * 5 - 1);
  }
  SECTION("text is cut") {
    std::string bytes;
    for (int i = 0; i < 16; ++i)
      bytes.append("250-").append(3000, 'x').append("\r\n");
    const auto got = read_all(bytes + "250 end\r\n", 4096);
    REQUIRE(got.size() == 1);
    CHECK(got[0].size() == 4 + 16384);
  }
  SECTION("however long, it has its code, and the next one is read") {
    std::string bytes = "550-5.7.1 no\r\n";
    for (int i = 0; i < 200000; ++i)
      bytes.append("550-5.7.1 because\r\n");
    bytes.append("550 5.7.1 end\r\n250 2.0.0 next\r\n");
    const auto got = read_all(bytes, 16384);
    REQUIRE(got.size() == 2);
    CHECK(got[0].starts_with("550 5.7.1 no because because"));
    CHECK(got[0].size() < 16400);
    CHECK(got[1] == "250 2.0.0 next");
  }
  SECTION("the code of a last line behind the limits counts") {
    std::string bytes;
    for (int i = 0; i < 1000; ++i)
      bytes.append("250-").append(3000, 'x').append("\r\n");
    CHECK(read_all(bytes + "452 4.3.1 full\r\n", 4096)[0].starts_with("452 4.3.1 x"));
  }
  SECTION("a long line is one line") {
    CHECK(read_all("250 " + std::string(8U << 20U, 'x') + "\r\n250 b\r\n", 16384)[1] == "250 b");
  }
  SECTION("an endless line is refused") {
    CHECK(read_all(std::string(17U << 20U, '2'), 16384) == Lines{"too long"});
    CHECK(read_all("250 " + std::string(17U << 20U, 'x') + "\r\n", 16384) == Lines{"too long"});
  }
  SECTION("an endless reply is refused") {
    std::string bytes;
    while (bytes.size() < 17U << 20U)
      bytes.append("250-x\r\n");
    CHECK(read_all(bytes, 16384) == Lines{"too long"});
    bytes = "250-x\r\n";
    while (bytes.size() < 17U << 20U)
      bytes.append("no code\r\n");
    CHECK(read_all(bytes, 16384) == Lines{"too long"});
  }
}

TEST_CASE("the limit of octets is one reply's, and not a connection's", "[mail][reply]") {
  std::string wire;
  for (int i = 0; i < 1000; ++i)
    wire += "250-" + std::string(1000, 'x') + "\r\n";
  wire += "250 end\r\n";
  ReplyParser parser;
  for (int i = 0; i < 20; ++i) {
    std::size_t used = 0;
    const auto read = parser.feed(wire, used);
    REQUIRE(read.has_value());
    REQUIRE(read->has_value());
    CHECK((*read)->code == 250);
  }
}

TEST_CASE("a reply's enhanced code stands on each line of the wire (RFC 2034)", "[mail][reply]") {
  CHECK(Reply(250, {2, 0, 0}, "ok").wire() == "250 2.0.0 ok\r\n");
  CHECK(Reply(250, {}, "ok").wire() == "250 ok\r\n");
  CHECK(Reply(550, {5, 7, 1}, "a\nb").wire() == "550-5.7.1 a\r\n550 5.7.1 b\r\n");
  CHECK(Reply(550, {5, 7, 1}, "a\nb").str() == "550 5.7.1 a b");
  CHECK(Reply(550, {}, "").str() == "550");
}

TEST_CASE("what a reply says is the same when it has been on the wire", "[mail][reply]") {
  for (const auto& reply : {Reply(250, {2, 1, 5}, "a"), Reply(451, {4, 3, 0}, "a\nb\n\nc"),
                            Reply(220, {}, "mx.example.org ESMTP"), Reply(554, {5, 0, 0}, "")}) {
    ReplyParser parser;
    std::size_t used = 0;
    const auto wire = reply.wire();
    const auto read = parser.feed(wire, used);
    REQUIRE(read.has_value());
    REQUIRE(read->has_value());
    CHECK(**read == reply);
    CHECK(used == wire.size());
  }
}

TEST_CASE("the reason of an outcome reads as in Postfix's mailq", "[mail][outcome]") {
  Outcome outcome;
  outcome.remote = "mx1.example.org[192.0.2.1]:25";
  outcome.reply = Reply(451, {4, 3, 0}, "try later");
  outcome.stage = Stage::rcpt;
  CHECK(outcome.reason() ==
        "host mx1.example.org[192.0.2.1] said: 451 4.3.0 try later (in reply to RCPT TO command)");
  outcome.stage = Stage::body_end;
  CHECK(outcome.reason() ==
        "host mx1.example.org[192.0.2.1] said: 451 4.3.0 try later (in reply to end of DATA "
        "command)");
  outcome.stage = Stage::greeting;
  CHECK(outcome.reason() ==
        "host mx1.example.org[192.0.2.1] refused to talk to me: 451 4.3.0 try later");
  outcome.stage = Stage::connect;
  outcome.reply = Reply();
  outcome.text = "connect to mx1.example.org[192.0.2.1]:25: Connection refused";
  CHECK(outcome.reason() == outcome.text);
  outcome.stage = Stage::rcpt;
  outcome.remote = "mx1.example.org[2001:db8::1]:25";
  outcome.reply = Reply(550, {5, 1, 1}, "no");
  CHECK(outcome.reason() ==
        "host mx1.example.org[2001:db8::1] said: 550 5.1.1 no (in reply to RCPT TO command)");
}

TEST_CASE("every stage has its phrase", "[mail][outcome]") {
  CHECK(phrase(Stage::route) == "finding a host for the domain"s);
  CHECK(phrase(Stage::rcpt) == "sending RCPT TO"s);
  CHECK(phrase(Stage::body_end) == "sending the end of the message (it may arrive twice)"s);
  CHECK(phrase(Stage::admin) == "carrying out an administrator's command"s);
}

}  // namespace
}  // namespace postrider::mail
