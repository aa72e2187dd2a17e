#include "mail/dot_stuffing.h"

#include "mail/body_reader.h"

#include <catch2/catch.hpp>

#include <random>

namespace postrider::mail {
namespace {

using namespace std::string_view_literals;

std::string stuffed(std::string_view content, std::size_t piece) {
  DotStuffer stuffer;
  std::string wire;
  for (std::size_t at = 0; at < content.size(); at += piece)
    stuffer.feed(content.substr(at, piece), wire);
  stuffer.finish(wire);
  return wire;
}

TEST_CASE("lines that begin with a dot get another one", "[mail][dot_stuffing]") {
  struct Case {
    std::string name;
    std::string content;
    std::string wire;
  };
  const std::vector<Case> cases = {
      {"nothing", "", ".\r\n"},
      {"no dots", "a\r\n", "a\r\n.\r\n"},
      {"O03: a last line without CRLF gets one", "a", "a\r\n.\r\n"},
      {"O04: a CR at the end is completed, not doubled", "a\r", "a\r\n.\r\n"},
      {"O05: a line of one dot at the start", ".\r\nb\r\n", "..\r\nb\r\n.\r\n"},
      {"O05: in the middle", "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"},
      {"O05: at the end", "a\r\n.\r\n", "a\r\n..\r\n.\r\n"},
      {"O05: without its CRLF", "a\r\n.", "a\r\n..\r\n.\r\n"},
      {"O02: a smuggled end", "a\r\n.\r\nMAIL FROM:<x@us>\r\n",
       "a\r\n..\r\nMAIL FROM:<x@us>\r\n.\r\n"},
      {"dots in a row", "...\r\n...\r\n", "....\r\n....\r\n.\r\n"},
      {"a dot elsewhere", "a.b\r\n", "a.b\r\n.\r\n"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      for (std::size_t piece = 1; piece <= c.content.size() + 1; ++piece)
        CHECK(stuffed(c.content, piece) == c.wire);
    }
}

TEST_CASE("O10: what a receiver reads is what was sent", "[mail][dot_stuffing]") {
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    std::string content;
    for (std::size_t lines = random() % 12; lines > 0; --lines) {
      for (std::size_t n = random() % 6; n > 0; --n)
        content.push_back(".a.b\xfc"[random() % 5]);
      content.append("\r\n");
    }
    const auto wire = stuffed(content, 1 + random() % 7);
    std::string read;
    DataReader reader;
    REQUIRE(reader.feed(wire, read) == wire.size());
    REQUIRE(reader.at_end());
    REQUIRE(read == content);
    REQUIRE(has_leading_dot(content) == (wire.size() != content.size() + 3));
  }
}

TEST_CASE("O05: dots at the edges of blocks are found", "[mail][dot_stuffing]") {
  for (std::size_t fill = 4080; fill < 4110; ++fill) {
    const std::string content = std::string(fill, 'x') + "\r\n.\r\n" + std::string(5000, 'y');
    CHECK(has_leading_dot(content));
    CHECK(stuffed(content, content.size()) ==
          std::string(fill, 'x') + "\r\n..\r\n" + std::string(5000, 'y') + "\r\n.\r\n");
  }
  CHECK_FALSE(has_leading_dot(""));
  CHECK_FALSE(has_leading_dot(std::string(20000, 'x')));
  const std::string dots(1U << 20U, '.');
  CHECK(stuffed(dots, 4096).size() == dots.size() + 6);
}

}  // namespace
}  // namespace postrider::mail
