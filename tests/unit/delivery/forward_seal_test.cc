// What is sealed when mail goes on to another system, as verifiers see it.
#include "delivery/local/forward_seal.h"

#include "mailauth/message_hasher.h"
#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;
using namespace postrider::delivery;
using mailauth::ChainResult;

namespace {

const TimePoint kNow{Duration(1'764'000'000'000)};
constexpr const char* kReceived =
    "Received: from c.test ([192.0.2.1])\r\n\tby mx.us.test (Postrider) with ESMTP id "
    "1;\r\n\tnow\r\n";
constexpr const char* kOwn = "Authentication-Results: mx.us.test; spf=pass smtp.mailfrom=a.test";
constexpr const char* kContent =
    "From: Ann <ann@a.test>\r\nSubject: hello\r\nDate: now\r\n\r\nHello.\r\n\r\n";

const mailauth::PrivateKey& key() {
  static const auto made = mailauth::PrivateKey::generate(mailauth::KeyType::rsa, 2048).value();
  return made;
}

std::shared_ptr<mailauth::LiveSigner> signer(const std::string& domain) {
  mailauth::Signer::Keys keys;
  keys[domain].push_back(
      {domain, "ed", mailauth::PrivateKey::generate(mailauth::KeyType::ed25519).value()});
  keys[domain].push_back({domain, "s1", key()});
  auto live = std::make_shared<mailauth::LiveSigner>();
  live->replace(std::make_shared<const mailauth::Signer>(
      std::move(keys), mailauth::SigningOptions(), std::set<mailauth::SigningRole>()));
  return live;
}

mail::Message message(const std::string& trace, const std::string& content = kContent) {
  mail::Message made;
  made.content.trace = trace;
  made.content.bytes = std::make_shared<const std::string>(content);
  made.content.size = content.size();
  return made;
}

Seal sealed(const mail::Message& made, const std::string& domain = "us.test") {
  const ForwardSealer sealer(signer(domain), "mx.us.test", "mx.us.test");
  return *sealer.seal(made, {}, kNow);
}

mailauth::ChainReport verified(const std::string& whole) {
  tests::FakeZones dns;
  dns.add_text("s1._domainkey.us.test", "v=DKIM1; k=rsa; p=" + key().public_data());
  mailauth::MessageHasher hasher({.arc = true});
  hasher.feed(whole);
  hasher.finish();
  return dns.run(hasher.verify_chain(kNow));
}

std::string with(const Seal& seal, const mail::Message& made) {
  return seal.fields + made.content.trace + *made.content.bytes;
}

std::string own(const std::string& more = {}) {
  return kOwn + more + "\r\n" + kReceived;
}

std::size_t count(const std::string& text, std::string_view word) {
  std::size_t found = 0;
  for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1))
    ++found;
  return found;
}

}  // namespace

TEST_CASE("seal: a first one holds what was found, and verifies", "[seal]") {
  const auto made = message(own());
  const auto seal = sealed(made);
  CHECK(seal.why_not.empty());
  CHECK(seal.fields.starts_with("ARC-Seal: i=1;"));
  CHECK(seal.fields.find("cv=none") != seal.fields.npos);
  CHECK(seal.fields.find("s=s1") != seal.fields.npos);  // what every verifier knows
  const auto results = seal.fields.substr(seal.fields.find("ARC-Authentication-Results"));
  CHECK(results.find("mx.us.test") != results.npos);
  CHECK(results.find("spf=pass") != results.npos);
  CHECK(results.find("arc=none") != results.npos);
  const auto report = verified("Delivered-To: x@us.test\r\n" + with(seal, made));
  CHECK(report.result == ChainResult::pass);
  CHECK(report.sealers == std::vector<std::string>{"us.test"});
  CHECK(verified(with(seal, message(own(), std::string(kContent) + "more\r\n"))).result ==
        ChainResult::fail);
}

TEST_CASE("seal: a chain goes on, and a broken one is sealed as such once", "[seal]") {
  const auto first = message(own());
  const auto before = with(sealed(first), first);
  const auto second = message(own("; arc=pass"), before);
  const auto seal = sealed(second);
  CHECK(seal.fields.find("i=2; a=rsa-sha256") != seal.fields.npos);
  CHECK(seal.fields.find("cv=pass") != seal.fields.npos);
  CHECK(verified(with(seal, second)).result == ChainResult::pass);

  const auto broken = message(own("; arc=fail"), before + "changed\r\n");
  const auto failed = sealed(broken);
  CHECK(failed.fields.find("cv=fail") != failed.fields.npos);
  const auto after = with(failed, broken);
  CHECK(verified(after).result == ChainResult::fail);
  const auto third = sealed(message(own("; arc=fail"), after));
  CHECK(third.fields.empty());
  CHECK(third.why_not == "the chain had failed before");
}

TEST_CASE("seal: a chain of which nothing is known is left as it is", "[seal]") {
  const auto first = message(own());
  const auto before = with(sealed(first), first);
  for (const char* told : {"", "; arc=temperror", "; arc=none"}) {
    const auto seal = sealed(message(own(told), before));
    CHECK(seal.fields.empty());
    CHECK_FALSE(seal.why_not.empty());
  }
  // It passed and was then damaged, by a filter.
  const auto half = before.substr(before.find("ARC-Message-Signature"));
  const auto seal = sealed(message(own("; arc=pass"), half));
  CHECK(seal.fields.find("cv=pass") == seal.fields.npos);
}

TEST_CASE("seal: only what we found ourselves, and once", "[seal]") {
  for (const std::string& trace :
       {std::string(kReceived), "Authentication-Results: mx.other.test; spf=pass\r\n" +
                                    own().substr(own().find("Received"))}) {
    const auto seal = sealed(message(trace, kOwn + std::string("\r\n") + kContent));
    CHECK(seal.fields.empty());
    CHECK(seal.why_not.empty());
  }
  const auto first = message(own());
  const auto seal = sealed(first);
  const auto again = sealed(message("Delivered-To: y@us.test\r\n" + seal.fields + own()));
  CHECK((again.fields.empty() && again.why_not.empty()));
}

TEST_CASE("seal: without a key, or with two authors, it says why not", "[seal]") {
  CHECK(sealed(message(own()), "other.test").why_not == "there is no DKIM key of mx.us.test");
  const auto two = sealed(message(own(), "From: a@a.test\r\n" + std::string(kContent)));
  CHECK((two.fields.empty() && !two.why_not.empty()));
  const ForwardSealer none(nullptr, "us.test", "mx.us.test");
  CHECK_FALSE(none.seal(message(own()), {}, kNow)->why_not.empty());
}

TEST_CASE("seal: hostile results stay within one field", "[seal]") {
  const auto made = message(
      "Authentication-Results: mx.us.test; spf=fail reason=\"x\\\"; y (\" "
      "smtp.mailfrom=\"a b\"@c.test\r\n" +
      std::string(kReceived));
  const auto seal = sealed(made);
  if (seal.fields.empty())
    return;
  CHECK(count(seal.fields, "\r\nARC-") == 2);
  CHECK(verified(with(seal, made)).result == ChainResult::pass);
}
