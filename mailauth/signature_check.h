// What DKIM and ARC share in verifying: the hash of the header fields, and the key from the DNS
// (RFC 6376 §6.1.2, §6.1.3).
#pragma once

#include "mailauth/asking.h"
#include "mailauth/header_index.h"
#include "mailauth/signature.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::mailauth {

// RFC 8601 §2.7.1.
enum class SignatureResult : std::uint8_t {
  none,
  pass,
  fail,
  policy,  // verified or not, it does not count here
  neutral,
  temperror,
  permerror
};
std::string_view to_string(SignatureResult result);

struct KeyCheck {
  SignatureResult result = SignatureResult::permerror;
  std::string reason;  // why not pass
  bool testing = false;
  unsigned key_bits = 0;
};

// Of several key records at a name these many are tried; what lies behind these many is not read.
constexpr std::size_t kMostKeyRecords = 4;
constexpr std::size_t kMostKeyAnswers = 16;

// The SHA-256 of the fields of h= and of the signature's own field, at place `own` in the header.
std::string header_digest(const HeaderIndex& header, std::size_t own, const Signature& signature);

// Asks for the key and checks the signature of the digest. Requires: no fault in the signature.
// Promises: one question. Several key records are tried in turn; one that verifies is enough.
Asking<KeyCheck> check_with_key(Signature signature, std::string digest);

}  // namespace postrider::mailauth
