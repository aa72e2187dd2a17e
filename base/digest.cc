#include "base/digest.h"

#include "base/assert.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <cerrno>
#include <sys/random.h>

namespace postrider {

namespace {

const unsigned char* octets(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

unsigned char* octets(std::string& bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

}  // namespace

std::string sha256(std::string_view bytes) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  SHA256(octets(bytes), bytes.size(), octets(out));
  return out;
}

std::string hmac_sha256(std::string_view key, std::string_view bytes) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  unsigned size = 0;
  const auto* made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), octets(bytes),
                          bytes.size(), octets(out), &size);
  POSTRIDER_ASSERT(made != nullptr && size == out.size());
  return out;
}

std::string hmac_md5(std::string_view key, std::string_view bytes) {
  std::string out(16, '\0');
  unsigned size = 0;
  const auto* made = HMAC(EVP_md5(), key.data(), static_cast<int>(key.size()), octets(bytes),
                          bytes.size(), octets(out), &size);
  POSTRIDER_ASSERT(made != nullptr && size == out.size());
  return out;
}

std::string pbkdf2_sha256(std::string_view password, std::string_view salt,
                          std::uint32_t iterations) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  const int made =
      PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), octets(salt),
                        static_cast<int>(salt.size()), static_cast<int>(iterations), EVP_sha256(),
                        static_cast<int>(out.size()), octets(out));
  POSTRIDER_ASSERT(made == 1);
  return out;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string random_bytes(std::size_t count) {
  std::string out(count, '\0');
  std::size_t have = 0;
  while (have < count) {
    const auto got = ::getrandom(out.data() + have, count - have, 0);
    POSTRIDER_ASSERT(got > 0 || errno == EINTR);
    have += got > 0 ? static_cast<std::size_t>(got) : 0;
  }
  return out;
}

std::string encode_hex(std::string_view bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto octet = static_cast<unsigned char>(c);
    out.append(1, kDigits[octet >> 4U]).append(1, kDigits[octet & 15U]);
  }
  return out;
}

}  // namespace postrider
