#include "mailauth/arc.h"

#include "dkim_support.h"

#include <catch2/catch.hpp>

namespace postrider::mailauth {
namespace {

const std::string kMessage =
    "From: joe@d1.example\r\n"
    "To: list@example.org\r\n"
    "Subject: hi\r\n"
    "\r\n"
    "Text\r\n";

ChainReport verify_chain(std::string_view message, tests::FakeZones& dns, bool oldest = false) {
  const HeaderIndex header(message);
  BodyHashes bodies;
  const ArcVerifier verifier(header, bodies, oldest);
  feed(bodies, body_of(message));
  return dns.run(verifier.verify(kNow));
}

std::string verdict(std::string_view message, tests::FakeZones& dns) {
  const auto report = verify_chain(message, dns);
  return std::string(to_string(report.result)) +
         (report.reason.empty() ? "" : ": " + report.reason);
}

SigningKey sealer(int hop) {
  return {"h" + std::to_string(hop) + ".example", "s", hop % 2 == 0 ? rsa_key() : ed25519_key()};
}

void publish(tests::FakeZones& dns, int hops) {
  for (int hop = 1; hop <= hops; ++hop)
    dns.add_text("s._domainkey.h" + std::to_string(hop) + ".example",
                 key_record_text(sealer(hop).key));
}

Result<std::string> seal(std::string_view message, const ChainReport& chain, int hop) {
  SigningOptions options;
  BodyHashes bodies;
  const auto body = bodies.add(options.body_form);
  feed(bodies, body_of(message));
  const HeaderIndex header(message);
  const std::vector<MethodResult> results = {
      {"dkim", "pass", "", "", {{"header", "d", "d1.example"}}}, arc_result(chain)};
  return seal_arc(header, chain, bodies.digest(body), sealer(hop),
                  "mx.h" + std::to_string(hop) + ".example", results, options, kNow);
}

std::string sealed(std::string_view message, tests::FakeZones& dns, int hop) {
  return seal(message, verify_chain(message, dns), hop).value() + std::string(message);
}

std::string with(std::string text, std::string_view old, std::string_view fresh) {
  const auto at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), fresh);
}

// The message without the first field of this name.
std::string without_field(const std::string& message, std::string_view name) {
  const HeaderIndex header(message);
  const auto& field = header.fields()[header.named(name).front()];
  return with(message, field.whole, "");
}

TEST_CASE("a chain of forwarders", "[mailauth][arc]") {
  tests::FakeZones dns;
  publish(dns, 3);
  CHECK(verdict(kMessage, dns) == "none");
  const auto one = sealed(kMessage, dns, 1);
  CHECK(verdict(one, dns) == "pass");
  const HeaderIndex header(one);
  CHECK(header.fields()[0].name == "ARC-Seal");
  CHECK(header.fields()[1].name == "ARC-Message-Signature");
  CHECK(header.fields()[2].name == "ARC-Authentication-Results");
  CHECK(header.fields()[0].value.find("cv=none") != std::string_view::npos);
  CHECK(header.fields()[2].value.find("i=1; mx.h1.example; dkim=pass header.d=d1.example;") !=
        std::string_view::npos);
  const auto two = sealed(one, dns, 2);
  const auto three = sealed(two, dns, 3);
  const auto report = verify_chain(three, dns, true);
  CHECK(report.result == ChainResult::pass);
  CHECK(report.sets == 3);
  CHECK(report.sealers == std::vector<std::string>{"h1.example", "h2.example", "h3.example"});
  CHECK(report.oldest_pass == 1);
  CHECK(arc_result(report).properties.at(0).value == "0");
  SECTION("the second forwarder changed the subject") {
    const auto changed = sealed(with(one, "Subject: hi", "Subject: [list] hi"), dns, 2);
    CHECK(verdict(changed, dns) == "fail: the chain had failed before");
    const auto honest = [&] {
      const auto chain = verify_chain(one, dns);
      const auto fresh = with(one, "Subject: hi", "Subject: [list] hi");
      return seal(fresh, chain, 2).value() + fresh;
    }();
    const auto after = verify_chain(sealed(honest, dns, 3), dns, true);
    CHECK(after.result == ChainResult::pass);
    CHECK(after.oldest_pass == 2);
  }
}

TEST_CASE("chains that are broken", "[mailauth][arc]") {
  tests::FakeZones dns;
  publish(dns, 3);
  const auto one = sealed(kMessage, dns, 1);
  const auto two = sealed(one, dns, 2);
  CHECK(verdict(two + "more\r\n", dns) ==
        "fail: message signature in set 2: body hash did not verify");
  CHECK(verdict(with(two, "Subject: hi", "Subject: ho"), dns) ==
        "fail: message signature in set 2: signature did not verify");
  CHECK(verdict(with(two, "i=1; mx.h1.example; dkim=pass", "i=1; mx.h1.example; dkim=fail"), dns) ==
        "fail: seal in set 2: signature did not verify");
  CHECK(verdict(without_field(two, "ARC-Seal"), dns) == "fail: a field is missing in set 2");
  CHECK(verdict(without_field(one, "ARC-Authentication-Results"), dns) ==
        "fail: a field is missing in set 1");
  CHECK(verdict(with(two, "ARC-Authentication-Results: i=1", "X: i=1"), dns) ==
        "fail: a field is missing in set 1");
  CHECK(verdict("ARC-Seal: i=3; a=rsa-sha256\r\n" + two, dns) == "fail: seal without an instance");
  const HeaderIndex header(two);
  CHECK(verdict(std::string(header.fields()[0].whole) + two, dns) == "fail: two ARC-Seal in set 2");
  CHECK(verdict(with(two, "cv=pass", "cv=none"), dns) == "fail: cv=none in set 2");
  CHECK(verdict(with(two, "cv=none", "cv=pass"), dns) == "fail: cv=pass in set 1");
  CHECK(verdict(with(two, "cv=pass", "cv=maybe"), dns) == "fail: seal: invalid cv= in set 2");
  CHECK(verdict(with(two, "cv=pass;", "cv=pass; h=from;"), dns) ==
        "fail: seal: h= in a seal in set 2");
  CHECK(verdict(with(two, "h=From:", "h=arc-seal:From:"), dns) ==
        "fail: message signature: ARC-Seal is signed in set 2");
  CHECK(verdict("ARC-Authentication-Results: i=0; x; none\r\n" + kMessage, dns) ==
        "fail: results without an instance");
  CHECK(verdict("ARC-Authentication-Results: i=51; x; none\r\n" + kMessage, dns) ==
        "fail: results without an instance");
  CHECK(verdict("ARC-Authentication-Results: i=50; x; none\r\n" + kMessage, dns) ==
        "fail: a field is missing in set 1");
  std::string flood;
  for (int i = 0; i < 51; ++i)
    flood += "ARC-Authentication-Results: i=1; x; none\r\n";
  CHECK(verdict(flood + kMessage, dns) == "fail: more than 50 sets");
  dns.forget_questions();
  CHECK(verdict(two + "more\r\n", dns).starts_with("fail"));
  CHECK(dns.asked().size() == 1);  // the newest seal's key: the rest is not worth a question
}

TEST_CASE("a chain whose keys cannot be asked for", "[mailauth][arc]") {
  tests::FakeZones dns;
  publish(dns, 2);
  const auto two = sealed(sealed(kMessage, dns, 1), dns, 2);
  tests::FakeZones failing("s._domainkey.h1.example FAILS\n");
  failing.add_text("s._domainkey.h2.example", key_record_text(sealer(2).key));
  CHECK(verdict(two, failing) == "temperror: seal in set 1: key lookup failed");
  CHECK(seal(two, verify_chain(two, failing), 3).error().step() ==
        "the chain could not be verified");
}

TEST_CASE("a chain that failed is sealed once and then left alone", "[mailauth][arc]") {
  tests::FakeZones dns;
  publish(dns, 3);
  const auto broken = sealed(kMessage, dns, 1) + "more\r\n";
  const auto chain = verify_chain(broken, dns);
  REQUIRE(chain.result == ChainResult::fail);
  const auto fields = seal(broken, chain, 2).value();
  CHECK(fields.find("cv=fail") != std::string::npos);
  const auto message = fields + broken;
  CHECK(verdict(message, dns) == "fail: the chain had failed before");
  CHECK(seal(message, verify_chain(message, dns), 3).error().step() ==
        "the chain had failed before");
  // The seal covers its own set as if it were the only one.
  auto alone = fields;
  const auto signature =
      parse_signature(HeaderIndex(alone).fields()[0].value, SignatureKind::arc_seal);
  const HeaderIndex own(alone);
  std::string input;
  append_canonical(Form::relaxed, own.fields()[2], input);
  append_canonical(Form::relaxed, own.fields()[1], input);
  input += own_field_input(Form::relaxed, own.fields()[0], signature);
  Sha256 hash;
  hash.update(input);
  CHECK(dns.run(check_with_key(signature, hash.digest())).result == SignatureResult::pass);
}

TEST_CASE("no chain grows beyond 50 sets", "[mailauth][arc]") {
  tests::FakeZones dns;
  publish(dns, 50);
  auto message = kMessage;
  for (int hop = 1; hop <= 50; ++hop)
    message = sealed(message, dns, hop);
  const auto chain = verify_chain(message, dns);
  CHECK(chain.result == ChainResult::pass);
  CHECK(chain.sets == 50);
  CHECK(seal(message, chain, 1).error().step() == "the chain has 50 sets");
}

TEST_CASE("what is not sealed", "[mailauth][arc]") {
  tests::FakeZones dns;
  publish(dns, 1);
  CHECK(seal("Subject: hi\r\n\r\n", {}, 1).error().step() == "not exactly one From field");
  const auto one = sealed(kMessage, dns, 1);
  CHECK(seal(one, {}, 1).error().step() == "the chain is not the one that was verified");
}

// RFC 8617 appendix B; its keys have 512 bits, which do not count (RFC 8301), and so serve for the
// structure alone.
TEST_CASE("the example of RFC 8617", "[mailauth][arc]") {
  const std::string message =
      "ARC-Seal: i=3; a=rsa-sha256; cv=pass; d=clochette.example.org; s=\r\n"
      "        clochette; t=12345; b=CU87XzXlNlk5X/yW4l73UvPUcP9ivwYWxyBWcVrRs7\r\n"
      "        +HPx3K05nJhny2fvymbReAmOA9GTH/y+k9kEc59hAKVg==\r\n"
      "ARC-Message-Signature: i=3; a=rsa-sha256; c=relaxed/relaxed; d=\r\n"
      "        clochette.example.org; h=message-id:date:from:to:subject; s=\r\n"
      "        clochette; t=12345; bh=KWSe46TZKCcDbH4klJPo+tjk5LWJnVRlP5pvjXFZY\r\n"
      "        LQ=; b=o71vwyLsK+Wm4cOSlirXoRwzEvi0vqIjd/2/GkYFYlSd/GGfKzkAgPqxf\r\n"
      "        K7ccBMP7Zjb/mpeggswHjEMS8x5NQ==\r\n"
      "ARC-Authentication-Results: i=3; clochette.example.org; spf=fail\r\n"
      "    smtp.from=jqd@d1.example; dkim=fail (512-bit key)\r\n"
      "    header.i=@d1.example; dmarc=fail; arc=pass (as.2.gmail.example=pass,\r\n"
      "    ams.2.gmail.example=pass, as.1.lists.example.org=pass,\r\n"
      "    ams.1.lists.example.org=fail (message has been altered))\r\n"
      "From: jqd@d1.example\r\n\r\n";
  const HeaderIndex header(message);
  const auto chain = read_arc_chain(header);
  REQUIRE(chain.sets.size() == 3);
  CHECK(chain.fault == "a field is missing in set 1");
  const auto& newest = chain.sets[2];
  CHECK(newest.seal.fault.empty());
  CHECK(newest.seal.domain == "clochette.example.org");
  CHECK(newest.seal.chain_state == "pass");
  CHECK(newest.seal.data.size() == 64);
  CHECK(newest.message.fault.empty());
  CHECK(newest.message.fields ==
        std::vector<std::string>{"message-id", "date", "from", "to", "subject"});
  const auto text = header.fields()[*newest.results_place].value;
  const auto results = parse_authentication_results(text.substr(text.find(';') + 1));
  REQUIRE(results.has_value());
  CHECK(results->authserv_id == "clochette.example.org");
  CHECK(results->results.size() == 4);
  CHECK(results->results[3].method == "arc");
}

}  // namespace
}  // namespace postrider::mailauth
