// The keys of DKIM and ARC signatures: RSA (RFC 6376, RFC 8301) and Ed25519 (RFC 8463), by OpenSSL.
// All const functions are thread-safe.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct evp_pkey_st;

namespace postrider::mailauth {

enum class KeyType : std::uint8_t { rsa, ed25519 };
std::string_view to_string(KeyType type);     // as in k= of a key record
std::string_view algorithm_of(KeyType type);  // as in a= of a signature, with sha256

// Shorter RSA keys never count (RFC 8301 §3.2). Longer ones than 4096 bits may be refused there.
constexpr unsigned kLeastRsaBits = 1024;
constexpr unsigned kMostRsaBits = 8192;
// What signers should use at least.
constexpr unsigned kLeastSigningRsaBits = 2048;

struct FreeKey {
  void operator()(evp_pkey_st* key) const;
};
using KeyHandle = std::unique_ptr<evp_pkey_st, FreeKey>;

class PublicKey {
 public:
  // bytes: what p= holds, decoded: for RSA a SubjectPublicKeyInfo or an RSAPublicKey in DER, with
  // nothing behind it; for Ed25519 the 32 octets of the key (RFC 8463 §4.2).
  // Errc::refused: RSA keys outside the limits, or with an exponent that is even, below 3 or longer
  // than 33 bits, which would make checking a signature slow, or anybody able to make one.
  static Result<PublicKey> from_bytes(KeyType type, std::string_view bytes);

  KeyType type() const { return type_; }
  unsigned bits() const { return bits_; }
  // Whether this is the signature of the digest (32 octets, SHA-256).
  bool verifies(std::string_view digest, std::string_view signature) const;

 private:
  PublicKey(KeyHandle key, KeyType type);
  std::shared_ptr<evp_pkey_st> key_;
  KeyType type_;
  unsigned bits_;
};

class PrivateKey {
 public:
  // PEM: "PRIVATE KEY" (PKCS #8) or "RSA PRIVATE KEY", not encrypted. The same limits as above;
  // other kinds of keys are Errc::unsupported. No error text shows a part of the key.
  static Result<PrivateKey> from_pem(std::string_view pem);
  // bits: for RSA, between kLeastSigningRsaBits and kMostRsaBits. Slow: some 100 ms.
  static Result<PrivateKey> generate(KeyType type, unsigned bits = kLeastSigningRsaBits);

  KeyType type() const { return type_; }
  unsigned bits() const { return bits_; }
  std::string pem() const;  // PKCS #8
  // What belongs into p= of the key record, in Base64.
  std::string public_data() const;
  Result<std::string> sign(std::string_view digest) const;

 private:
  PrivateKey(KeyHandle key, KeyType type);
  std::shared_ptr<evp_pkey_st> key_;
  KeyType type_;
  unsigned bits_;
};

}  // namespace postrider::mailauth
