#include "mailauth/message_hasher.h"

#include "dkim_support.h"

#include "base/digest.h"

#include <catch2/catch.hpp>

#include <random>

namespace postrider::mailauth {
namespace {

void feed_pieces(MessageHasher& hasher, std::string_view content, std::size_t piece) {
  for (std::size_t at = 0; at < content.size(); at += piece)
    hasher.feed(content.substr(at, piece));
  hasher.finish();
}

TEST_CASE("a message is divided where its header section ends", "[mailauth][message_hasher]") {
  const std::vector<std::string> messages = {
      "",
      "\r\n",
      "\n",
      "\r",
      "From: a\r\n",
      "From: a\r\n\r\n",
      "From: a\r\n\r\nbody\r\n",
      "From: a\r\n b\r\n\tc\r\nTo: d\r\n\r\n body\r\n\r\n",
      "From: a\n\nbody\n",
      "From: a\r\nno field\r\nTo: b\r\n\r\n",
      "From: a\r\n\r\r\nx",
      "From: a\r\n \r\nTo: b\r\n\r\nx",
      "From me Mon\r\nFrom: a\r\n\r\nx",
      "From: a\r\nFrom me Mon\r\n\r\nx",
      " indented\r\nFrom: a\r\n\r\nx",
      "no field at all",
      "From: a\r\nTo: no end",
      "From: a\r\nno field no end",
      "From: a\r\n" + std::string(3000, 'x') + ": b\r\n\r\nx",
      "From: a\r\nTo: " + std::string(3000, 'x') + "\r\n\r\nx",
      "From: a\r\n\r\n" + std::string(100'000, 'y') + "\r\n",
  };
  for (const auto& message : messages)
    for (const std::size_t piece : {1U, 2U, 7U, 1000U, 200'000U}) {
      CAPTURE(message.substr(0, 60), piece);
      MessageHasher hasher({.body = Form::simple});
      feed_pieces(hasher, message, piece);
      const auto size = mail::header_section_size(message);
      BodyHashes bodies;
      const auto body = bodies.add(Form::simple);
      bodies.feed(std::string_view(message).substr(size));
      bodies.finish();
      CHECK(hasher.body_digest() == bodies.digest(body));
      CHECK(hasher.header_section() == message.substr(0, mail::header_facts(message).size));
    }
}

TEST_CASE("messages of random lines are divided alike", "[mailauth][message_hasher]") {
  std::mt19937 random(5322);
  for (int round = 0; round < 2000; ++round) {
    std::string message;
    for (auto parts = random() % 12; parts > 0; --parts)
      message += std::vector<std::string>{
          "\r\n", "\n", "\r", " ", "A: b", "From x", ":", "c"}[random() % 8];
    MessageHasher hasher({.body = Form::simple});
    feed_pieces(hasher, message, 1 + random() % 5);
    CAPTURE(message);
    REQUIRE(hasher.header_section() == message.substr(0, mail::header_facts(message).size));
    BodyHashes bodies;
    const auto body = bodies.add(Form::simple);
    bodies.feed(std::string_view(message).substr(mail::header_section_size(message)));
    bodies.finish();
    REQUIRE(hasher.body_digest() == bodies.digest(body));
  }
}

TEST_CASE("everything in one pass", "[mailauth][message_hasher]") {
  tests::FakeZones dns;
  dns.add_text("s._domainkey.example.com", key_record_text(rsa_key()));
  const auto message =
      signed_message("From: joe@example.com\r\n\r\nText\r\n", {{"example.com", "s", rsa_key()}});
  MessageHasher hasher({.dkim = true, .arc = true, .body = Form::relaxed});
  feed_pieces(hasher, message, 9);
  const auto reports = dns.run(hasher.verify_dkim(kNow));
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].result == SignatureResult::pass);
  CHECK(dns.run(hasher.verify_chain(kNow)).result == ChainResult::none);
  CHECK(hasher.body_digest() == sha256("Text\r\n"));
  MessageHasher without({.body = Form::relaxed});
  feed_pieces(without, message, 9);
  CHECK(dns.run(without.verify_dkim(kNow)).empty());
  CHECK(dns.run(without.verify_chain(kNow)).result == ChainResult::none);
}

TEST_CASE("a header section without an end is not kept", "[mailauth][message_hasher]") {
  tests::FakeZones dns;
  for (const std::string line : {"X: y\r\n", " more\r\n", "X: no end"}) {
    MessageHasher hasher({.dkim = true, .arc = true, .body = Form::relaxed});
    hasher.feed("DKIM-Signature: v=1\r\n");
    std::size_t fed = 0;
    std::string block;
    while (block.size() < 60'000)
      block += line;
    for (; fed < 8 * kMostHeaderSize; fed += block.size())
      hasher.feed(block);
    hasher.finish();
    CHECK(hasher.header().too_large());
    CHECK(hasher.header_section().size() <= kMostHeaderSize);
    CHECK(hasher.body_digest().empty());
    const auto reports = dns.run(hasher.verify_dkim(kNow));
    REQUIRE(reports.size() == 1);
    CHECK(reports[0].result == SignatureResult::policy);
  }
}

}  // namespace
}  // namespace postrider::mailauth
