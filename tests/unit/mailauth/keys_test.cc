#include "mailauth/keys.h"

#include "dkim_support.h"

#include <catch2/catch.hpp>
#include <openssl/err.h>

namespace postrider::mailauth {
namespace {

using namespace std::string_literals;

std::string der_length(std::size_t size) {
  std::string out;
  if (size < 128)
    return out.append(1, static_cast<char>(size));
  if (size < 256)
    return out.append(1, '\x81').append(1, static_cast<char>(size));
  out.append(1, '\x82').append(1, static_cast<char>(size >> 8U));
  return out.append(1, static_cast<char>(size & 255U));
}

std::string der_integer(const std::string& magnitude) {
  const auto body =
      (static_cast<unsigned char>(magnitude[0]) >= 0x80 ? std::string(1, '\0') : "") + magnitude;
  return "\x02" + der_length(body.size()) + body;
}

// RSAPublicKey (RFC 8017 §A.1.1) of any modulus and exponent.
std::string rsa_public_key(const std::string& modulus, const std::string& exponent) {
  const auto both = der_integer(modulus) + der_integer(exponent);
  return "\x30" + der_length(both.size()) + both;
}

std::string read(const std::string& der) {
  const auto key = PublicKey::from_bytes(KeyType::rsa, der);
  return key ? std::to_string(key->bits()) : key.error().step();
}

TEST_CASE("RSA keys outside the limits are refused", "[mailauth][keys]") {
  const auto modulus = [](std::size_t bits) {
    std::string octets(bits / 8, '\xc5');
    return octets;
  };
  const std::string f4("\x01\x00\x01", 3);
  CHECK(read(rsa_public_key(modulus(1024), f4)) == "1024");
  CHECK(read(rsa_public_key(modulus(4096), f4)) == "4096");
  CHECK(read(rsa_public_key(modulus(8192), f4)) == "8192");
  CHECK(read(rsa_public_key(modulus(1016), f4)) == "RSA key of 1016 bits is too short");
  CHECK(read(rsa_public_key(modulus(512), f4)) == "RSA key of 512 bits is too short");
  CHECK(read(rsa_public_key(modulus(8200), f4)) == "RSA key of 8200 bits is too long");
  CHECK(read(rsa_public_key(modulus(16384), f4)) == "RSA key of 16384 bits is too long");
  CHECK(read(rsa_public_key(modulus(65536), f4)) == "key too long");
}

TEST_CASE("RSA exponents that are a trick are refused", "[mailauth][keys]") {
  const std::string modulus(256, '\xc5');
  const std::string unsuitable = "RSA key with an unsuitable exponent";
  CHECK(read(rsa_public_key(modulus, "\x03")) == "2048");
  CHECK(read(rsa_public_key(modulus, "\x01")) == unsuitable);
  CHECK(read(rsa_public_key(modulus, std::string(1, '\0'))) == unsuitable);
  CHECK(read(rsa_public_key(modulus, "\x04")) == unsuitable);
  CHECK(read(rsa_public_key(modulus, std::string(256, '\x7f'))) == unsuitable);
}

TEST_CASE("broken public keys", "[mailauth][keys]") {
  const auto der = *decode_base64(rsa_key().public_data());
  CHECK(read(der) == "2048");
  CHECK(read("") == "invalid RSA key");
  CHECK(read("x") == "invalid RSA key");
  CHECK(read(der.substr(0, der.size() - 1)) == "invalid RSA key");
  CHECK(read(der + "x") == "invalid RSA key");
  CHECK(read(std::string(300, '\0')) == "invalid RSA key");
  // Each octet of its structure matters; none of these is read beyond its end.
  const std::size_t structure = 32;  // the modulus comes then
  for (std::size_t at = 0; at < structure; ++at)
    for (const int change : {1, 0x80, 0xff}) {
      auto changed = der;
      changed[at] = static_cast<char>(changed[at] ^ change);
      CAPTURE(at, change);
      CHECK(read(changed) == "invalid RSA key");
    }
  for (std::size_t size = 0; size < der.size(); ++size)
    CHECK(read(der.substr(0, size)) == "invalid RSA key");
  // The key alone, without what says that it is one of RSA.
  CHECK(read(der.substr(24)) == "2048");
  CHECK(read("\x30\x82\x00\x05\x02\x01\x05\x02\x01\x03"s) == "invalid RSA key");
  CHECK(read("\x30\x80\x02\x01\x05\x02\x01\x03\x00\x00"s) == "invalid RSA key");
  CHECK(read("\x30\x06\x02\x01\x85\x02\x01\x03"s) == "invalid RSA key");
  CHECK(read("\x30\x05\x02\x00\x02\x01\x03"s) == "invalid RSA key");
  for (const std::size_t size : {0U, 31U, 33U, 44U})
    CHECK_FALSE(PublicKey::from_bytes(KeyType::ed25519, std::string(size, 'x')).has_value());
  // Another key's structure does not pass for RSA.
  const std::string ed25519_info("\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 12);
  CHECK(read(ed25519_info + *decode_base64(ed25519_key().public_data())) == "invalid RSA key");
  CHECK(ERR_peek_error() == 0);
}

TEST_CASE("keys sign and verify", "[mailauth][keys]") {
  const std::string digest(32, 'd');
  for (const auto* key : {&rsa_key(), &ed25519_key()}) {
    const auto signature = *key->sign(digest);
    const auto open = PublicKey::from_bytes(key->type(), *decode_base64(key->public_data()));
    REQUIRE(open.has_value());
    CHECK(open->bits() == key->bits());
    CHECK(open->verifies(digest, signature));
    CHECK_FALSE(open->verifies(std::string(32, 'e'), signature));
    CHECK_FALSE(open->verifies(digest, signature.substr(1)));
    CHECK_FALSE(open->verifies(digest, signature + "x"));
    CHECK_FALSE(open->verifies(digest, ""));
    auto changed = signature;
    changed[5] = static_cast<char>(changed[5] ^ 1);
    CHECK_FALSE(open->verifies(digest, changed));
  }
  CHECK(ERR_peek_error() == 0);
}

TEST_CASE("private keys are read from PEM", "[mailauth][keys]") {
  for (const auto* key : {&rsa_key(), &ed25519_key()}) {
    const auto again = PrivateKey::from_pem(key->pem());
    REQUIRE(again.has_value());
    CHECK(again->public_data() == key->public_data());
  }
  CHECK_FALSE(PrivateKey::from_pem("").has_value());
  CHECK_FALSE(PrivateKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
                  .has_value());
  // An encrypted key asks nobody for a passphrase.
  CHECK_FALSE(PrivateKey::from_pem("-----BEGIN ENCRYPTED PRIVATE "
                                   "KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBA=\n"
                                   "-----END ENCRYPTED PRIVATE KEY-----\n")
                  .has_value());
  CHECK_FALSE(PrivateKey::generate(KeyType::rsa, 1024).has_value());
  CHECK_FALSE(PrivateKey::generate(KeyType::rsa, 16384).has_value());
  CHECK(ERR_peek_error() == 0);
}

}  // namespace
}  // namespace postrider::mailauth
