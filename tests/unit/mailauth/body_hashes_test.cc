#include "mailauth/body_hashes.h"

#include "base/base64.h"
#include "base/digest.h"

#include <catch2/catch.hpp>

namespace postrider::mailauth {
namespace {

TEST_CASE("the hash of an empty body", "[mailauth][body_hashes]") {
  BodyHashes bodies;
  const auto simple = bodies.add(Form::simple);
  const auto relaxed = bodies.add(Form::relaxed);
  bodies.finish();
  // RFC 6376 §3.4.3, §3.4.4
  CHECK(encode_base64(bodies.digest(simple)) == "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=");
  CHECK(encode_base64(bodies.digest(relaxed)) == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
  CHECK(bodies.canonical_size(simple) == 2);
  CHECK(bodies.canonical_size(relaxed) == 0);
}

TEST_CASE("several lengths are hashed in one pass", "[mailauth][body_hashes]") {
  const std::string body = "Some  text\r\nand more \r\n\r\n";
  const std::string relaxed = "Some text\r\nand more\r\n";
  for (std::size_t piece = 1; piece < 30; piece += 4) {
    BodyHashes bodies;
    const auto all = bodies.add(Form::relaxed);
    std::vector<BodyHashes::Id> cuts;
    for (const std::uint64_t length : {21U, 5U, 0U, 12U, 13U})
      cuts.push_back(bodies.add(Form::relaxed, length));
    const auto beyond = bodies.add(Form::relaxed, 22);
    const auto simple = bodies.add(Form::simple, 11);
    CHECK(bodies.add(Form::relaxed, 5) == cuts[1]);
    CHECK(bodies.add(Form::relaxed) == all);
    for (std::size_t at = 0; at < body.size(); at += piece)
      bodies.feed(std::string_view(body).substr(at, piece));
    bodies.finish();
    CHECK(bodies.digest(all) == sha256(relaxed));
    CHECK(bodies.canonical_size(all) == relaxed.size());
    CHECK(bodies.digest(cuts[0]) == sha256(relaxed.substr(0, 21)));
    CHECK(bodies.digest(cuts[1]) == sha256(relaxed.substr(0, 5)));
    CHECK(bodies.digest(cuts[2]) == sha256(""));
    CHECK(bodies.digest(cuts[3]) == sha256(relaxed.substr(0, 12)));
    CHECK(bodies.digest(cuts[4]) == sha256(relaxed.substr(0, 13)));
    CHECK(bodies.digest(simple) == sha256(body.substr(0, 11)));
    CHECK(bodies.digest(beyond).empty());
  }
}

}  // namespace
}  // namespace postrider::mailauth
