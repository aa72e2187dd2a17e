#include "smtpd/auth/token_keys.h"

#include "base/base64.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace postrider::smtpd::auth {

namespace {

namespace json = boost::json;

constexpr std::size_t kLeastSecret = 32;  // RFC 7518 §3.2
constexpr int kLeastRsaBits = 2048;       // RFC 7518 §3.3
constexpr std::size_t kMostKeys = 100;
constexpr std::size_t kNumber = 32;  // octets of a number of P-256

template <class T, void (*free)(T*)>
struct Freed {
  void operator()(T* handle) const { free(handle); }
};
template <class T, void (*free)(T*)>
using Owned = std::unique_ptr<T, Freed<T, free>>;

void free_bio(BIO* bio) {
  BIO_free(bio);
}

std::shared_ptr<EVP_PKEY> shared(EVP_PKEY* key) {
  return {key, EVP_PKEY_free};
}

const unsigned char* octets(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

std::string member(const json::object& object, const char* key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_string())
    return {};
  return {value->get_string().data(), value->get_string().size()};
}

std::shared_ptr<EVP_PKEY> from_parameters(const char* type, OSSL_PARAM_BLD* builder) {
  const Owned<OSSL_PARAM, OSSL_PARAM_free> parameters(OSSL_PARAM_BLD_to_param(builder));
  const Owned<EVP_PKEY_CTX, EVP_PKEY_CTX_free> context(
      EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
    return nullptr;
  return shared(key);
}

std::shared_ptr<EVP_PKEY> rsa_key(const json::object& jwk) {
  const auto n = decode_base64url(member(jwk, "n"));
  const auto e = decode_base64url(member(jwk, "e"));
  if (!n || !e || n->empty() || e->empty() || n->size() > 2048 || e->size() > 8)
    return nullptr;
  const Owned<BIGNUM, BN_free> modulus(BN_bin2bn(octets(*n), static_cast<int>(n->size()), nullptr));
  const Owned<BIGNUM, BN_free> exponent(
      BN_bin2bn(octets(*e), static_cast<int>(e->size()), nullptr));
  const Owned<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get());
  return from_parameters("RSA", builder.get());
}

std::shared_ptr<EVP_PKEY> p256_key(const json::object& jwk) {
  const auto x = decode_base64url(member(jwk, "x"));
  const auto y = decode_base64url(member(jwk, "y"));
  if (member(jwk, "crv") != "P-256" || !x || !y || x->size() != kNumber || y->size() != kNumber)
    return nullptr;
  const auto point = "\x04" + *x + *y;
  const Owned<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  return from_parameters("EC", builder.get());
}

// The algorithm that a public key is good for; empty: none that we know.
std::string algorithm_of(EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "RSA") == 1 && EVP_PKEY_get_bits(key) >= kLeastRsaBits)
    return "RS256";
  if (EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_bits(key) == 256)
    return "ES256";
  return {};
}

std::optional<TokenKeys::Key> from_jwk(const json::object& jwk) {
  TokenKeys::Key key;
  key.id = member(jwk, "kid");
  const auto type = member(jwk, "kty");
  if (type == "oct") {
    key.secret = decode_base64url(member(jwk, "k")).value_or("");
    key.algorithm = "HS256";
    if (key.secret.size() < kLeastSecret)
      return std::nullopt;
    return key;
  }
  key.key = type == "RSA" ? rsa_key(jwk) : type == "EC" ? p256_key(jwk) : nullptr;
  key.algorithm = key.key ? algorithm_of(key.key.get()) : "";
  if (key.algorithm.empty())
    return std::nullopt;
  return key;
}

// What is for encrypting, and kinds that we do not know, is passed over.
void read_jwks(const json::object& jwks, std::vector<TokenKeys::Key>& keys) {
  const auto* list = jwks.if_contains("keys");
  if (list == nullptr || !list->is_array())
    return;
  for (const auto& item : list->get_array())
    if (item.is_object() && member(item.get_object(), "use") != "enc" && keys.size() < kMostKeys)
      if (auto key = from_jwk(item.get_object()))
        keys.push_back(std::move(*key));
}

void read_pem(std::string_view bytes, std::vector<TokenKeys::Key>& keys) {
  const Owned<BIO, free_bio> in(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
  const bool are_certificates = bytes.find("BEGIN CERTIFICATE") != std::string_view::npos;
  while (in && keys.size() < kMostKeys) {
    std::shared_ptr<EVP_PKEY> key;
    if (are_certificates) {
      const Owned<X509, X509_free> certificate(
          PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
      if (certificate)
        key = shared(X509_get_pubkey(certificate.get()));
    } else {
      key = shared(PEM_read_bio_PUBKEY(in.get(), nullptr, nullptr, nullptr));
    }
    if (!key)
      break;
    if (auto algorithm = algorithm_of(key.get()); !algorithm.empty())
      keys.push_back({{}, std::move(algorithm), std::move(key), {}});
  }
  ERR_clear_error();
}

}  // namespace

Result<TokenKeys> TokenKeys::parse(std::string_view bytes) {
  TokenKeys keys;
  boost::system::error_code error;
  const auto value = json::parse({bytes.data(), bytes.size()}, error);
  if (!error && value.is_object()) {
    read_jwks(value.get_object(), keys.keys_);
  } else if (bytes.find("-----BEGIN ") != std::string_view::npos) {
    read_pem(bytes, keys.keys_);
  } else {
    while (bytes.ends_with('\n') || bytes.ends_with('\r'))
      bytes.remove_suffix(1);
    if (bytes.size() >= kLeastSecret)
      keys.keys_.push_back({{}, "HS256", nullptr, std::string(bytes)});
  }
  if (keys.keys_.empty())
    return malformed("no usable key: a JWKS, PEM public keys, or a secret of 32 octets is needed");
  return keys;
}

bool verify_signature(const TokenKeys::Key& key, std::string_view signed_part,
                      std::string_view signature) {
  std::string der(signature);
  if (key.algorithm == "ES256") {
    if (signature.size() != 2 * kNumber)
      return false;
    const Owned<ECDSA_SIG, ECDSA_SIG_free> pair(ECDSA_SIG_new());
    ECDSA_SIG_set0(pair.get(), BN_bin2bn(octets(signature), kNumber, nullptr),
                   BN_bin2bn(octets(signature.substr(kNumber)), kNumber, nullptr));
    unsigned char* out = nullptr;
    const int size = i2d_ECDSA_SIG(pair.get(), &out);
    if (size <= 0)
      return false;
    der.assign(reinterpret_cast<const char*>(out), static_cast<std::size_t>(size));
    OPENSSL_free(out);
  }
  const Owned<EVP_MD_CTX, EVP_MD_CTX_free> context(EVP_MD_CTX_new());
  const bool is_good =
      EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.key.get()) == 1 &&
      EVP_DigestVerify(context.get(), octets(der), der.size(), octets(signed_part),
                       signed_part.size()) == 1;
  ERR_clear_error();
  return is_good;
}

}  // namespace postrider::smtpd::auth
