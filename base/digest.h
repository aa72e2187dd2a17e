// Digests and what is built of them, by OpenSSL: for SASL, tokens and fingerprints. Octets in, raw
// octets out. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider {

std::string sha256(std::string_view bytes);
std::string hmac_sha256(std::string_view key, std::string_view bytes);
std::string hmac_md5(std::string_view key, std::string_view bytes);  // for CRAM-MD5 only
// RFC 8018 §5.2 with HMAC-SHA-256, 32 octets. Slow by design: never on a network loop.
std::string pbkdf2_sha256(std::string_view password, std::string_view salt,
                          std::uint32_t iterations);
// Takes as long for any two texts of the same length.
bool equal_in_constant_time(std::string_view a, std::string_view b);
// From the kernel, for keys, salts and nonces.
std::string random_bytes(std::size_t count);
// Lower case.
std::string encode_hex(std::string_view bytes);

}  // namespace postrider
