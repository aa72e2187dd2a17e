#include "mailauth/key_record.h"

#include "dkim_support.h"

#include "base/base64.h"

#include <catch2/catch.hpp>

namespace postrider::mailauth {
namespace {

// The record in short, or the error.
std::string read(std::string_view text) {
  const auto record = parse_key_record(text);
  if (!record)
    return record.error().step();
  std::string out(to_string(record->type));
  out.append(" ").append(record->key);
  out.append(record->testing ? " testing" : "").append(record->same_domain ? " strict" : "");
  out.append(record->allows_sha256 ? "" : " not-sha256");
  return out.append(record->allows_email ? "" : " not-email");
}

TEST_CASE("key records", "[mailauth][key_record]") {
  struct Case {
    std::string text;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"p=Zm9v", "rsa foo"},
      {"v=DKIM1; k=ed25519; p=Zm 9v;", "ed25519 foo"},
      {"v=DKIM1; p=", "rsa "},
      {"v=DKIM1; t=y:s; p=Zm9v", "rsa foo testing strict"},
      {"t= s : x ; p=Zm9v", "rsa foo strict"},
      {"h=sha1; p=Zm9v", "rsa foo not-sha256"},
      {"h=sha1:sha256; p=Zm9v", "rsa foo"},
      {"s=tlsrpt; p=Zm9v", "rsa foo not-email"},
      {"s=tlsrpt:email; p=Zm9v", "rsa foo"},
      {"s=*; n=a note; x=unknown; p=Zm9v", "rsa foo"},
      {"v=DKIM2; p=Zm9v", "key record of an unknown version"},
      {"p=Zm9v; v=DKIM1", "key record of an unknown version"},
      {"v=dkim1; p=Zm9v", "key record of an unknown version"},
      {"k=x; p=Zm9v", "key record of an unknown key type"},
      {"v=DKIM1", "key record without p="},
      {"p=!", "key record with an invalid p="},
      {"p=Zm9v; p=Zm9v", "tag p given twice"},
      {"v=spf1 -all", "key record of an unknown version"},
      {"p=" + std::string(8192, 'A'), "key record too long"},
      {"", "empty tag list"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.text) {
      CHECK(read(c.text) == c.want);
    }
}

TEST_CASE("the name of a key", "[mailauth][key_record]") {
  CHECK(key_name("s1", "example.com") == "s1._domainkey.example.com");
  CHECK(key_name("a.b_c", "example.com") == "a.b_c._domainkey.example.com");
  CHECK_FALSE(key_name("", "example.com"));
  CHECK_FALSE(key_name("a b", "example.com"));
  CHECK_FALSE(key_name("a", ""));
  const std::string label(60, 'x');
  const auto domain = label + "." + label + "." + label + ".example.com";
  CHECK(key_name("short", domain));
  CHECK_FALSE(key_name(label, domain));
}

TEST_CASE("a key's own record", "[mailauth][key_record]") {
  for (const auto* key : {&rsa_key(), &ed25519_key()}) {
    const auto text = key_record_text(*key);
    const auto record = parse_key_record(text);
    REQUIRE(record.has_value());
    CHECK(record->type == key->type());
    const auto read_back = PublicKey::from_bytes(record->type, record->key);
    REQUIRE(read_back.has_value());
    CHECK(read_back->verifies(std::string(32, 'x'), *key->sign(std::string(32, 'x'))));
    std::string joined;
    for (const auto& piece : zone_strings(text)) {
      CHECK(piece.size() <= 257);
      joined += piece.substr(1, piece.size() - 2);
    }
    CHECK(joined == text);
  }
  CHECK(zone_strings("a\"b\\") == std::vector<std::string>{R"("a\"b\\")"});
}

}  // namespace
}  // namespace postrider::mailauth
