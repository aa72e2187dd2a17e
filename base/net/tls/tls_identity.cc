#include "base/net/tls/tls_identity.h"

#include "base/file.h"
#include "base/net/tls/tls_openssl.h"
#include "base/text.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>

namespace postrider {

namespace {

constexpr std::size_t kMostPem = 1U << 20U;
constexpr std::size_t kMostChain = 20;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

Bio reader(std::string_view pem) {
  return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free};
}

// Nobody is there to type one.
int no_password(char*, int, int, void*) {
  return -1;
}

TimePoint time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1)
    return {};
  return TimePoint(std::chrono::seconds(::timegm(&parts)));
}

std::vector<std::string> names_of(const X509& certificate) {
  std::vector<std::string> names;
  auto* all = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(all); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(all, i);
    if (name->type != GEN_DNS)
      continue;
    const auto* text = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName));
    names.push_back(ascii_lower(
        std::string_view(text, static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)))));
  }
  GENERAL_NAMES_free(all);
  if (names.empty())
    if (auto name = common_name(certificate); !name.empty())
      names.push_back(ascii_lower(name));
  return names;
}

std::string type_of(const EVP_PKEY& key) {
  switch (EVP_PKEY_get_base_id(&key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
      return "RSA";
    case EVP_PKEY_EC:
      return "ECDSA";
    case EVP_PKEY_ED25519:
      return "Ed25519";
    case EVP_PKEY_ED448:
      return "Ed448";
    default:
      return {};
  }
}

Result<std::string> read_pem(const std::string& path) {
  auto pem = read_file(path, kMostPem);
  if (!pem)
    return pem.error().during(path);
  return pem;
}

}  // namespace

Result<std::shared_ptr<const TlsIdentity>> TlsIdentity::load(const std::string& certificate_file,
                                                             const std::string& key_file) {
  const auto certificate = read_pem(certificate_file);
  if (!certificate)
    return certificate.error();
  auto key = read_pem(key_file);
  if (!key)
    return key.error();
  auto made = parse(*certificate, *key);
  OPENSSL_cleanse(key->data(), key->size());
  return made;
}

Result<std::shared_ptr<const TlsIdentity>> TlsIdentity::parse(std::string_view certificate_pem,
                                                              std::string_view key_pem) {
  ERR_clear_error();
  auto made = std::make_shared<TlsIdentity>();
  const auto certificates = reader(certificate_pem);
  while (X509* one = PEM_read_bio_X509(certificates.get(), nullptr, no_password, nullptr)) {
    made->chain_.emplace_back(one, X509_free);
    if (made->chain_.size() > kMostChain)
      return Error(Errc::too_long, "more than 20 certificates in the file");
  }
  const auto end = ERR_peek_last_error();
  if (made->chain_.empty() && ERR_GET_REASON(end) == PEM_R_NO_START_LINE)
    return malformed("no certificate in PEM form");
  if (ERR_GET_REASON(end) != PEM_R_NO_START_LINE)
    return malformed("certificate " + std::to_string(made->chain_.size() + 1) + " is damaged");
  ERR_clear_error();
  const auto keys = reader(key_pem);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(keys.get(), nullptr, no_password, nullptr);
  if (key == nullptr) {
    const bool is_absent = key_pem.find("PRIVATE KEY-----") == std::string_view::npos;
    ERR_clear_error();
    return malformed(is_absent ? "no private key in PEM form"
                               : "the private key is damaged or protected by a password");
  }
  made->key_.reset(key, EVP_PKEY_free);
  if (X509_check_private_key(made->certificate(), key) != 1) {
    ERR_clear_error();
    return Error(Errc::refused, "the key is not that of the certificate");
  }
  made->key_type_ = type_of(*key);
  if (made->key_type_.empty())
    return Error(Errc::unsupported, "neither an RSA, ECDSA nor EdDSA key");
  made->names_ = names_of(*made->certificate());
  made->not_before_ = time_of(X509_get0_notBefore(made->certificate()));
  made->not_after_ = time_of(X509_get0_notAfter(made->certificate()));
  made->fingerprint_ = certificate_digest(*made->certificate());
  return std::shared_ptr<const TlsIdentity>(std::move(made));
}

bool TlsIdentity::is_for(std::string_view host) const {
  const auto name = ascii_lower(host);
  const auto dot = name.find('.');
  const auto parent = dot == std::string::npos ? std::string() : "*" + name.substr(dot);
  for (const auto& one : names_)
    if (one == name || (!parent.empty() && one == parent))
      return true;
  return false;
}

}  // namespace postrider
