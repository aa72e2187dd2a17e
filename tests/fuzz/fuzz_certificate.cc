// What a peer's certificate takes in memory is not told smaller than it is by much, however it is
// made.
#include "base/assert.h"
#include "base/net/tls/tls_openssl.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstdint>
#include <memory>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMost = 16U << 10U;
  if (size > kMost)
    return 0;
  const unsigned char* at = data;
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      d2i_X509(nullptr, &at, static_cast<long>(size)), X509_free);
  if (certificate) {
    const auto octets = octets_in_memory(*certificate);
    POSTRIDER_ASSERT(octets <= kMost * 128);
    const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
        static_cast<GENERAL_NAMES*>(
            X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)),
        GENERAL_NAMES_free);
    const auto parts = std::max(sk_GENERAL_NAME_num(names.get()), 0) +
                       X509_NAME_entry_count(X509_get_subject_name(certificate.get()));
    POSTRIDER_ASSERT(octets >= static_cast<std::size_t>(parts) * 128);
  }
  ERR_clear_error();
  return 0;
}
