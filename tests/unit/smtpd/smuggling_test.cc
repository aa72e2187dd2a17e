// attacks.md 2.1: what ends a message, and what never does. The oracle says it in the plainest way.
#include "support.h"

#include "smtpd/buffer_pool.h"
#include "tests/support/body_oracle.h"

#include <catch2/catch.hpp>

#include <chrono>
#include <thread>

using namespace postrider;
using namespace postrider::tests;
using namespace std::string_literals;

namespace {

const std::string kTail =
    "MAIL FROM:<x@us.test>\r\nRCPT TO:<y@us.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nz\r\n.\r\n";

struct Variant {
  std::string id;
  std::string bytes;
};

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"S01", "\n.\n"},
      {"S02", "\n.\r\n"},
      {"S03", "\r\n.\n"},
      {"S04", "\r.\r"},
      {"S05", "\r.\n"},
      {"S06", "\n.\r"},
      {"S07", "\r.\r\n"},
      {"S08", "\r\n.\r"},
      {"S09", "\r\n\0.\r\n"s},
      {"S10", "\r\n.\0\r\n"s},
      {"S11", "\r\n.\r\r\n"},
      {"S12", "\r\r\n.\r\r\n"},
      {"S13", "\r\r\n.\r\n"},
      {"S14", "\n\n.\n\n"},
      {"S15 space behind", "\r\n. \r\n"},
      {"S15 tab behind", "\r\n.\t\r\n"},
      {"S15 space before", "\r\n .\r\n"},
      {"S16 NEL", "\x85.\x85"},
      {"S16 line separator", "\xe2\x80\xa8.\xe2\x80\xa8"},
      {"S16 VT", "\x0b.\x0b"},
      {"S16 FF", "\x0c.\x0c"},
      {"S18", "\r\n..\r\n"},
      {"S19", "\r\n.x\r\n"},
  };
  return all;
}

std::string attack(const std::string& variant) {
  return "a\r\n" + variant + kTail;
}

// The replies that are right for the content of one message with whatever follows it.
struct Right {
  std::string codes;
  std::size_t kept = 0;
  bool closed = false;
};

// What follows a true end is MAIL, RCPT and a DATA that does not wait: out of step.
Right right_answer(const std::string& content) {
  const auto oracle = expected_data(content);
  Right right;
  const bool poisoned = oracle.bare_line_end || oracle.nul;
  right.codes = poisoned ? "550" : "250";
  right.kept = poisoned ? 0 : 1;
  if (oracle.consumed < content.size()) {
    right.codes += " 250 250 554";
    right.closed = true;
  }
  return right;
}

void check(const Play& result, const std::string& content) {
  const auto right = right_answer(content);
  if (right.closed && content[expected_data(content).consumed] != 'M')
    // A control octet before MAIL: what is left is not a transaction at all.
    CHECK(result.last_codes().substr(0, 3) == right.codes.substr(0, 3));
  else
    CHECK(result.last_codes() == right.codes);
  CHECK(result.closed == right.closed);
  REQUIRE(result.kept.size() == right.kept);
  if (right.kept == 1)
    CHECK(result.kept[0].content == expected_data(content).content);
}

}  // namespace

TEST_CASE("S01-S19: nothing but CRLF.CRLF ends a message", "[smtpd][attacks]") {
  for (const auto& variant : variants())
    DYNAMIC_SECTION(variant.id) {
      const auto content = attack(variant.bytes);
      check(play(with_data(content)), content);
    }
}

TEST_CASE("S17: the first octets after 354 are read like any others", "[smtpd][attacks]") {
  for (const auto* start : {".\n", ".\r", "\n.\r\n", ".\r\n"})
    DYNAMIC_SECTION("starts with " << start) {
      const std::string content = start + kTail;
      check(play(with_data(content)), content);
    }
  CHECK(play(with_data(".\r\n")).kept.at(0).content.empty());
}

TEST_CASE("S20: beyond the size limit the same line ends count", "[smtpd][attacks]") {
  PlayOptions options;
  options.settings.message_size = 20;
  for (const auto& variant : variants())
    DYNAMIC_SECTION(variant.id) {
      const auto content = "0123456789012345678901234567890123456789\r\n" + attack(variant.bytes);
      const auto result = play(with_data(content), options);
      const bool ended_early = expected_data(content).consumed < content.size();
      CHECK(result.last_codes() == (ended_early ? "552 250 250 554" : "552"));
      CHECK(result.kept.empty());
    }
}

TEST_CASE("S21: a long line changes nothing", "[smtpd][attacks]") {
  for (const auto& variant : variants())
    DYNAMIC_SECTION(variant.id) {
      const auto content = std::string(1200, 'x') + attack(variant.bytes);
      check(play(with_data(content)), content);
    }
}

TEST_CASE("S22: every variant, split at every octet", "[smtpd][attacks]") {
  for (const auto& variant : variants()) {
    const auto content = attack(variant.bytes);
    for (std::size_t cut = 1; cut < content.size(); ++cut) {
      PlayOptions options;
      options.cut = cut;
      INFO(variant.id << " cut at " << cut);
      const auto result = play_in_memory(with_data(content), options);
      const auto right = right_answer(content);
      // A cut behind the trailing DATA looks like a client that waited, and is answered 354.
      CHECK(result.last_codes().substr(0, right.codes.size() - (right.closed ? 3 : 0)) ==
            right.codes.substr(0, right.codes.size() - (right.closed ? 3 : 0)));
      CHECK(result.kept.size() <= right.kept + (right.closed ? 1 : 0));
    }
    PlayOptions options;
    options.piece = 1;
    if (expected_data(content).consumed == content.size())
      check(play_in_memory(with_data(content), options), content);
  }
}

// All cuts of a variant at once: the first halves, five milliseconds, the second halves.
TEST_CASE("S22: every variant in two TCP segments", "[smtpd][attacks][tcp]") {
  RunningServer server;
  std::size_t kept = 0;
  for (const auto& variant : variants()) {
    const auto content = attack(variant.bytes);
    if (expected_data(content).consumed < content.size())
      continue;  // S13, whose rest is commands
    const auto first = content.size() - kTail.size() - variant.bytes.size();
    std::vector<Peer> peers;
    for (auto cut = first; cut < content.size(); ++cut) {
      Peer peer(server.port());
      peer.reply();
      for (const auto& step : with_data("")) {
        if (!step.empty())
          peer.say(step);
      }
      peer.send(content.substr(0, cut));
      peers.push_back(std::move(peer));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (std::size_t i = 0; i < peers.size(); ++i)
      peers[i].send(content.substr(first + i));
    const auto right = right_answer(content);
    for (auto& peer : peers) {
      INFO(variant.id);
      CHECK(codes_of(peer.reply()) == right.codes);
      CHECK(peer.say("NOOP\r\n") == "250 2.0.0 Ok\r\n");
    }
    kept += right.kept * peers.size();
  }
  CHECK(server.custody().kept().size() == kept);
}

TEST_CASE("S23: the end of our read buffer falls into the dot", "[smtpd][attacks]") {
  constexpr auto kBuffer = smtpd::IoBuffer::kSize;
  for (const auto& variant : variants())
    for (int offset = -3; offset <= 3; ++offset) {
      INFO(variant.id << " at " << offset);
      std::string padding(kBuffer - 8 + static_cast<std::size_t>(offset + 3), 'p');
      for (std::size_t i = 70; i + 2 < padding.size(); i += 72)
        padding.replace(i, 2, "\r\n");
      const auto content = padding + variant.bytes + kTail;
      PlayOptions options;
      options.piece = kBuffer;
      const auto right = right_answer(content);
      const auto result = play_in_memory(with_data(content), options);
      CHECK(result.last_codes() == right.codes);
      CHECK(result.kept.size() == right.kept);
      if (offset == 0)
        CHECK(play_over_tcp(with_data(content), result).kept.size() == right.kept);
    }
}

TEST_CASE("S24: all pairs of line ends around a dot agree with the oracle", "[smtpd][attacks]") {
  const std::vector<std::string> ends = {"\r\n",    "\n",      "\r",   "\n\r",        "\r\r\n",
                                         "\r\n\0"s, "\0\r\n"s, "\x85", "\xe2\x80\xa8"};
  for (const auto& left : ends)
    for (const auto& right_end : ends) {
      const auto content = "a" + left + "." + right_end + kTail;
      INFO("oracle consumes " << expected_data(content).consumed << " of " << content.size());
      check(play(with_data(content)), content);
    }
}

TEST_CASE("S25: a command ends with CRLF, and a bare CR or LF makes it none", "[smtpd][attacks]") {
  struct Case {
    const char* name;
    std::string bytes;
    const char* codes;
    bool closed;
  };
  const std::vector<Case> cases = {
      {"bare LF ends nothing", "MAIL FROM:<a@us.test>\n", "500", true},
      {"two commands in one", "NOOP\nNOOP\r\n", "500", true},
      {"bare CR within", "NOOP\rNOOP\r\n", "500", false},
      {"CR CR LF", "EHLO x\r\r\n", "500", false},
      {"NUL within", "NOOP\0\r\n"s, "500", false},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto result = play({"EHLO client.test\r\n", c.bytes});
      CHECK(result.last_codes() == c.codes);
      CHECK(result.closed == c.closed);
    }
}

TEST_CASE("S26: within BDAT nothing ends but the count", "[smtpd][attacks]") {
  for (const auto& variant : variants())
    DYNAMIC_SECTION(variant.id) {
      const auto content = attack(variant.bytes);
      auto script = with_data("");
      script.resize(3);
      script.push_back("BDAT " + std::to_string(content.size()) + " LAST\r\n" + content);
      const auto oracle = expected_chunks(content);
      const auto result = play(script);
      const bool poisoned = oracle.bare_line_end || oracle.nul;
      CHECK(result.last_codes() == (poisoned ? "550" : "250"));
      REQUIRE(result.kept.size() == (poisoned ? 0 : 1));
      if (!poisoned)
        CHECK(result.kept[0].content == content);
    }
}

TEST_CASE("S27: submission has the same reader", "[smtpd][attacks]") {
  PlayOptions options;
  options.role = smtpd::Role::submission;
  options.settings = trusting_settings();
  for (const auto& variant : variants())
    DYNAMIC_SECTION(variant.id) {
      const auto content = attack(variant.bytes);
      check(play(with_data(content), options), content);
    }
}

TEST_CASE("S28: a client of HELO meets the same reader", "[smtpd][attacks]") {
  for (const auto& variant : variants())
    DYNAMIC_SECTION(variant.id) {
      const auto content = attack(variant.bytes);
      auto script = with_data(content);
      script[0] = "HELO client.test\r\n";
      const auto result = play(script);
      const auto right = right_answer(content);
      // Not offered PIPELINING, it is out of step one command earlier.
      CHECK(result.last_codes() == (right.closed ? "550 554" : right.codes));
      CHECK(result.kept.size() == right.kept);
    }
}
