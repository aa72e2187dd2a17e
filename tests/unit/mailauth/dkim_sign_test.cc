#include "mailauth/dkim_sign.h"

#include "dkim_support.h"

#include "base/text.h"
#include "mailauth/tag_list.h"

#include <catch2/catch.hpp>

#include <algorithm>

namespace postrider::mailauth {
namespace {

const std::string kMessage = "From: joe@example.com\r\nSubject: hi\r\n\r\nText\r\n";

std::string refusal(std::string_view message, const std::vector<SigningKey>& keys,
                    const SigningOptions& options = {}) {
  const HeaderIndex header(message);
  const auto fields = sign_dkim(header, std::string(32, 'x'), keys, options, kNow);
  return fields ? "signed" : fields.error().step();
}

std::string tag(std::string_view message, std::string_view name) {
  const HeaderIndex header(message);
  const auto tags = TagList::parse(header.fields()[0].value);
  return std::string(tags->value(name).value_or("(none)"));
}

TEST_CASE("signatures that are made", "[mailauth][dkim]") {
  SigningOptions options;
  options.valid_for = std::chrono::hours(24);
  const auto message =
      signed_message(kMessage, {{"Example.COM", "s1", rsa_key(), "jo;e@sub.example.com"}}, options);
  CHECK(tag(message, "v") == "1");
  CHECK(tag(message, "a") == "rsa-sha256");
  CHECK(tag(message, "c") == "relaxed/relaxed");
  CHECK(tag(message, "d") == "example.com");
  CHECK(tag(message, "s") == "s1");
  CHECK(tag(message, "i") == "jo=3Be@sub.example.com");
  CHECK(tag(message, "t") == "1764000000");
  CHECK(tag(message, "x") == "1764086400");
  CHECK(tag(message, "l") == "(none)");
  CHECK(without_white_space(tag(message, "h")) ==
        "From:From:To:Cc:Subject:Subject:Date:Reply-To:Message-ID:MIME-Version:Content-Type:"
        "Content-Transfer-Encoding");
  CHECK(tag(signed_message(kMessage, {{"example.com", "s1", rsa_key()}}), "x") == "(none)");
}

TEST_CASE("signatures are folded to 78 columns", "[mailauth][dkim]") {
  std::string fields;
  for (const auto& name : SigningOptions::default_signed_fields())
    fields += name + ": x\r\n" + name + ": y\r\n";
  const auto message =
      signed_message(fields + kMessage, {{"example.com", "s1", rsa_key(), "@mail.example.com"},
                                         {"example.com", "s2", ed25519_key()}});
  tests::FakeZones dns;
  dns.add_text("s1._domainkey.example.com", key_record_text(rsa_key()));
  dns.add_text("s2._domainkey.example.com", key_record_text(ed25519_key()));
  CHECK(verdicts(message, dns) == "pass; pass");
  for (auto line : split(std::string_view(message).substr(0, message.find("Sender: x")), '\n')) {
    std::size_t columns = 0;
    for (const char c : line)
      columns += c == '\t' ? 8U : c == '\r' ? 0U : 1U;
    CAPTURE(line);
    CHECK(columns <= 78);
  }
}

TEST_CASE("what is not signed", "[mailauth][dkim]") {
  const std::vector<SigningKey> keys = {{"example.com", "s1", rsa_key()}};
  CHECK(refusal(kMessage, keys) == "signed");
  CHECK(refusal("Subject: hi\r\n\r\n", keys) == "not exactly one From field");
  CHECK(refusal("From: a@b.example\r\n" + kMessage, keys) == "not exactly one From field");
  std::string many;
  for (int i = 0; i < 400; ++i)
    many += "To: x@example.com\r\n";
  CHECK(refusal(many + kMessage, keys) == "too many header fields to sign");
  CHECK(refusal("X: " + std::string(kMostHeaderSize, 'x') + "\r\n" + kMessage, keys) ==
        "header section too large");
  CHECK(refusal(kMessage, {{"exa mple.com", "s1", rsa_key()}}) == "invalid domain or selector");
  CHECK(refusal(kMessage, {{"example.com", "a;b", rsa_key()}}) == "invalid domain or selector");
  CHECK(refusal(kMessage, {{"example.com", "", rsa_key()}}) == "invalid domain or selector");
  CHECK(refusal(kMessage, {{"example.com", "s", rsa_key(), "joe"}}) == "i= without \"@\"");
  CHECK(refusal(kMessage, {{"example.com", "s", rsa_key(), "@example.org"}}) ==
        "i= is not within d=");
  CHECK(sign_dkim(HeaderIndex(kMessage), "", keys, {}, kNow).error().step() ==
        "the body was not hashed");
  SigningOptions options;
  options.least_rsa_bits = 3072;
  CHECK(refusal(kMessage, keys, options) == "RSA key of 2048 bits is too short");
  CHECK(refusal(kMessage, {{"example.com", "s1", ed25519_key()}}, options) == "signed");
  options = {};
  options.oversigned_fields = {"Subject"};
  CHECK(refusal(kMessage, keys, options) == "From would not be signed");
}

TEST_CASE("repeated fields are all signed", "[mailauth][dkim]") {
  const auto message = signed_message("List-Id: 1\r\nList-Id: 2\r\n" + kMessage,
                                      {{"example.com", "s1", ed25519_key()}});
  tests::FakeZones dns;
  dns.add_text("s1._domainkey.example.com", key_record_text(ed25519_key()));
  CHECK(verdicts(message, dns) == "pass");
  for (const auto* field : {"List-Id: 1", "List-Id: 2"}) {
    auto changed = message;
    changed.replace(changed.find(field), 10, "List-Id: 3");
    CHECK(verdicts(changed, dns) == "fail: signature did not verify");
  }
}

TEST_CASE("domains in UTF-8 are written as A-labels", "[mailauth][dkim]") {
  const auto message = signed_message(kMessage, {{"b\xc3\xbc"
                                                  "cher.example",
                                                  "s1", ed25519_key()}});
  CHECK(tag(message, "d") == "xn--bcher-kva.example");
}

}  // namespace
}  // namespace postrider::mailauth
