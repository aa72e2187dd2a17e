#include "mailauth/sha256.h"

#include "base/assert.h"

#include <openssl/evp.h>

#include <utility>

namespace postrider::mailauth {

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  POSTRIDER_ASSERT(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

Sha256::Sha256(const Sha256& other) : context_(EVP_MD_CTX_new()) {
  POSTRIDER_ASSERT(context_ && EVP_MD_CTX_copy_ex(context_.get(), other.context_.get()) == 1);
}

Sha256& Sha256::operator=(const Sha256& other) {
  auto copy = other;
  return *this = std::move(copy);
}

void Sha256::update(std::string_view bytes) {
  POSTRIDER_ASSERT(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

std::string Sha256::digest() const {
  const Sha256 copy(*this);
  std::string out(kSize, '\0');
  unsigned size = 0;
  POSTRIDER_ASSERT(EVP_DigestFinal_ex(copy.context_.get(),
                                      reinterpret_cast<unsigned char*>(out.data()), &size) == 1 &&
                   size == out.size());
  return out;
}

}  // namespace postrider::mailauth
