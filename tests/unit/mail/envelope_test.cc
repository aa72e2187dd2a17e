#include "mail/envelope.h"

#include <catch2/catch.hpp>

#include <random>

namespace postrider::mail {
namespace {

Envelope sample() {
  Envelope envelope;
  envelope.sender = "a@b.test";
  envelope.envelope_id = "x+2By";
  envelope.ret = Return::headers;
  envelope.body = BodyType::eight_bit_mime;
  envelope.smtputf8 = true;
  envelope.tls = TlsWish::required;
  envelope.recipients.push_back({"c@d.test", "rfc822;e@f.test", {Notify::kNever}});
  envelope.recipients.push_back({"postmaster", "", {}});
  envelope.recipients.push_back({"\xc3\xbc@d.test", "", {Notify::kSuccess | Notify::kDelay}});
  return envelope;
}

// With each wish about time and priority that `given` has a bit for.
Envelope timed(unsigned given) {
  using namespace std::chrono_literals;
  Envelope envelope = sample();
  if ((given & 1U) != 0)
    envelope.release = TimePoint(1'790'000'000s);
  if ((given & 2U) != 0)
    envelope.deliver_by = DeliverBy{.time = TimePoint(1'790'003'600s),
                                    .returns = (given & 4U) != 0,
                                    .traces = (given & 8U) != 0};
  if ((given & 16U) != 0)
    envelope.priority = (given & 4U) != 0 ? -9 : 9;
  if ((given & 32U) != 0)
    envelope.recipients.front().leaf = "leaf";
  return envelope;
}

TEST_CASE("an envelope comes back as it was stored", "[mail][envelope]") {
  const auto decoded = decode_envelope(encode(sample()));
  REQUIRE(decoded.has_value());
  CHECK(*decoded == sample());
  CHECK(*decode_envelope(encode(Envelope())) == Envelope());
  Envelope large = sample();
  for (int i = 0; i < 5000; ++i)
    large.recipients.push_back({"user" + std::to_string(i) + "@example.test", "", {}});
  CHECK(*decode_envelope(encode(large)) == large);
}

TEST_CASE("wishes about time and priority come back as they were stored", "[mail][envelope]") {
  for (unsigned given = 0; given < 64; ++given) {
    CAPTURE(given);
    const auto envelope = timed(given);
    const auto decoded = decode_envelope(encode(envelope));
    REQUIRE(decoded.has_value());
    CHECK(*decoded == envelope);
  }
  Envelope late = sample();
  late.release = TimePoint::max();  // no time of this world, and no damage either
  late.deliver_by = DeliverBy{.time = TimePoint::min()};
  const auto decoded = decode_envelope(encode(late));
  REQUIRE(decoded.has_value());
  CHECK(decoded->release > TimePoint(std::chrono::hours(24 * 365 * 500)));
  CHECK(decoded->deliver_by->time == TimePoint{});
}

TEST_CASE("I11: a damaged envelope is refused, or is another valid one", "[mail][envelope]") {
  for (const unsigned given : {0U, 32U, 1U, 2U, 16U, 63U}) {
    CAPTURE(given);
    const auto bytes = encode(timed(given));
    for (std::size_t size = 0; size < bytes.size(); ++size)
      CHECK_FALSE(decode_envelope(bytes.substr(0, size)).has_value());
    CHECK_FALSE(decode_envelope(bytes + '\0').has_value());
    for (std::size_t at = 0; at < bytes.size(); ++at)
      for (unsigned value = 0; value < 256; ++value) {
        auto damaged = bytes;
        damaged[at] = static_cast<char>(value);
        const auto decoded = decode_envelope(damaged);
        if (decoded)
          CHECK(encode(*decoded) == damaged);  // one form for each envelope
        else
          CHECK(decoded.error().code() == make_error_code(Errc::corrupt));
      }
  }
}

TEST_CASE("I11: claims of size cost nothing", "[mail][envelope]") {
  const std::string many("\x01\x00\x00\x00\xff\xff\xff\xff\x0f", 9);
  CHECK_FALSE(decode_envelope(many).has_value());
  const std::string endless("\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12);
  CHECK_FALSE(decode_envelope(endless).has_value());
}

TEST_CASE("I11: controls never come out of the database", "[mail][envelope]") {
  Envelope envelope = sample();
  envelope.sender = "a\r\nRCPT TO:<x@y>@b.test";
  CHECK_FALSE(decode_envelope(encode(envelope)).has_value());
}

TEST_CASE("the domain of an address is what DNS and routes want", "[mail][envelope]") {
  CHECK(domain_of("a@Example.ORG") == "example.org");
  CHECK(domain_of("\"a@b\"@c.test") == "c.test");
  CHECK(domain_of("\"a@b\"") == "");
  CHECK(domain_of("\"a\\\"@b\"@c.test") == "c.test");
  CHECK(domain_of("a.\"b@c.test\".d@e.test") == "e.test");
  CHECK(domain_of("\"a@c.test\".b@e.test") == "e.test");
  CHECK(domain_of("\"a\".\"@c.test\"@e.test") == "e.test");
  CHECK(domain_of("a\"b@c.test") == "c.test");
  CHECK(local_part_of("\"a@b\".\"c@d\"@e") == "\"a@b\".\"c@d\"");
  CHECK(domain_of("\"a") == "");
  CHECK(domain_of("\"a\\") == "");
  CHECK(domain_of("a@[192.0.2.1]") == "[192.0.2.1]");
  CHECK(domain_of("a@[IPV6:2001:DB8::1]") == "[IPv6:2001:db8::1]");
  CHECK(domain_of("a@b\xc3\xbc"
                  "cher.test") == "xn--bcher-kva.test");
  CHECK(domain_of("postmaster") == "");
  CHECK(domain_of("") == "");
  CHECK(local_part_of("a@b") == "a");
  CHECK(local_part_of("\"a@b\"@c") == "\"a@b\"");
  CHECK(local_part_of("postmaster") == "postmaster");
  CHECK(local_part_of("\"a\\") == "\"a\\");
}

}  // namespace
}  // namespace postrider::mail
