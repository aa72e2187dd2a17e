#include "tests/support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>

namespace postrider::test {

namespace {

template <class T, void (*Release)(T*)>
struct Releaser {
  void operator()(T* thing) const { Release(thing); }
};
using Key = std::unique_ptr<EVP_PKEY, Releaser<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Releaser<X509, X509_free>>;
using Bio = std::unique_ptr<BIO, Releaser<BIO, BIO_free_all>>;

Bio reader(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

std::string text_of(BIO* bio) {
  char* bytes = nullptr;
  const auto size = BIO_get_mem_data(bio, &bytes);
  return {bytes, static_cast<std::size_t>(size)};
}

Key make_key(const std::string& type) {
  if (type == "EC")
    return Key(EVP_EC_gen("P-256"));
  return Key(EVP_RSA_gen(type == "RSA" ? 2048 : 1024));
}

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  if (extension == nullptr)
    throw std::runtime_error("make certificate extension " + value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

}  // namespace

Pem make_certificate(const CertificateWish& wish) {
  static long serial = 1000;
  const Key key = make_key(wish.key_type);
  const Certificate made(X509_new());
  X509_set_version(made.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), wish.begins.count() * 3600);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), wish.ends.count() * 3600);
  X509_set_pubkey(made.get(), key.get());
  const auto& name = wish.names.front();
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  Certificate issuer;
  Key issuer_key;
  if (wish.issuer != nullptr) {
    const auto certificate = reader(wish.issuer->certificate);
    const auto secret = reader(wish.issuer->key);
    issuer.reset(PEM_read_bio_X509(certificate.get(), nullptr, nullptr, nullptr));
    issuer_key.reset(PEM_read_bio_PrivateKey(secret.get(), nullptr, nullptr, nullptr));
  }
  X509* signer = issuer ? issuer.get() : made.get();
  X509_set_issuer_name(made.get(), X509_get_subject_name(signer));
  std::string all;
  for (const auto& one : wish.names)
    all.append(all.empty() ? "DNS:" : ",DNS:").append(one);
  add_extension(made.get(), signer, NID_subject_alt_name, all);
  if (wish.is_authority)
    add_extension(made.get(), signer, NID_basic_constraints, "critical,CA:TRUE");
  X509_sign(made.get(), issuer_key ? issuer_key.get() : key.get(), EVP_sha256());
  const Bio certificate_text(BIO_new(BIO_s_mem()));
  const Bio key_text(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate_text.get(), made.get());
  PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {text_of(certificate_text.get()), text_of(key_text.get())};
}

}  // namespace postrider::test
