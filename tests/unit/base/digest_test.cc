#include "base/digest.h"

#include "base/base64.h"

#include <catch2/catch.hpp>

using namespace postrider;

TEST_CASE("digests are those of the standards", "[base][digest]") {
  CHECK(encode_hex(sha256("abc")) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // RFC 4231, test case 2
  CHECK(encode_hex(hmac_sha256("Jefe", "what do ya want for nothing?")) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  // RFC 7914 §11
  CHECK(encode_hex(pbkdf2_sha256("passwd", "salt", 1)) ==
        "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
  CHECK(equal_in_constant_time("abc", "abc"));
  CHECK_FALSE(equal_in_constant_time("abc", "abd"));
  CHECK_FALSE(equal_in_constant_time("abc", "abcd"));
  CHECK(random_bytes(300).size() == 300);
  CHECK(random_bytes(16) != random_bytes(16));
}

// RFC 4648 §4, §3.5.
TEST_CASE("base64 is padded, and one text stands for each octets", "[base][digest]") {
  CHECK(decode_base64("") == "");
  CHECK(decode_base64("QQ==") == "A");
  CHECK(decode_base64("QUI=") == "AB");
  CHECK(decode_base64("QUJD") == "ABC");
  CHECK(decode_base64("+/+/") == "\xfb\xff\xbf");
  for (const char* padding :
       {"=", "==", "====", "A===", "QQ=", "QQ", "QUI", "Q=I=", "QQ=A", "=QQQ",
        "QQ==QQ==", "QUI=QUJD", "QQ==QUJD", "QUJDQQ=", "QUJDQQ===", "QUJD===="})
    CHECK_FALSE(decode_base64(padding));
  for (const char* bits : {"QR==", "QZ==", "Q/==", "QUJ=", "QUL=", "QU//QR=="})
    CHECK_FALSE(decode_base64(bits));
  for (const char* digits : {"-_8=", "QQ==\n", "Q Q=", " QQ=", "QQ\r\n", "Q\x80==", "QUJ\xff"})
    CHECK_FALSE(decode_base64(digits));
  std::string octets;
  for (int i = 0; i < 256; ++i) {
    octets.push_back(static_cast<char>(i));
    CHECK(decode_base64(encode_base64(octets)) == octets);
  }
}

TEST_CASE("base64url has its own alphabet and no padding", "[base][digest]") {
  CHECK(decode_base64url("-_8") == "\xfb\xff");
  CHECK(decode_base64url("") == "");
  for (const char* bad : {"+/8", "-_8=", "a", "a b0", "----\n", "QR", "QUJ"})
    CHECK_FALSE(decode_base64url(bad));
}
