#include "smtpd/auth/token_keys.h"

#include "base/base64.h"
#include "base/json.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>

namespace postrider::smtpd::auth {

namespace {

namespace json = boost::json;

constexpr std::size_t kLeastSecret = 32;  // RFC 7518 §3.2
constexpr int kLeastRsaBits = 2048;       // RFC 7518 §3.3
constexpr std::size_t kMostKeys = 100;
constexpr std::size_t kNumber = 32;  // octets of a number of P-256
constexpr std::string_view kPemBegin = "-----BEGIN ";
constexpr std::string_view kSecret = "secret:";

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

// Whether the key says no more than that it verifies signatures by this algorithm: RFC 7517 §4.2
// to 4.4. A key that says nothing about itself is good for it too.
bool is_for(const json::object& jwk, std::string_view algorithm) {
  if (jwk.contains("alg") && member(jwk, "alg") != algorithm)
    return false;
  if (jwk.contains("use") && member(jwk, "use") != "sig")
    return false;
  const auto* acts = jwk.if_contains("key_ops");
  if (acts == nullptr)
    return true;
  return acts->is_array() &&
         std::any_of(acts->get_array().begin(), acts->get_array().end(),
                     [](const json::value& act) { return act == json::value("verify"); });
}

std::optional<TokenKeys::Key> from_jwk(const json::object& jwk) {
  TokenKeys::Key key;
  key.id = member(jwk, "kid");
  const auto type = member(jwk, "kty");
  if (type == "oct") {
    key.secret = decode_base64url(member(jwk, "k")).value_or("");
    key.algorithm = key.secret.size() < kLeastSecret ? "" : "HS256";
  } else {
    key.key = type == "RSA" ? rsa_key(jwk) : type == "EC" ? p256_key(jwk) : nullptr;
    key.algorithm = key.key ? algorithm_of(key.key.get()) : "";
  }
  if (key.algorithm.empty() || !is_for(jwk, key.algorithm))
    return std::nullopt;
  return key;
}

void add(std::vector<TokenKeys::Key>& keys, std::optional<TokenKeys::Key> key) {
  if (key && keys.size() < kMostKeys)
    keys.push_back(std::move(*key));
}

// A set of keys, or a lone one. What is for another purpose, and kinds that we do not know, is
// passed over.
void read_jwks(const json::object& jwks, std::vector<TokenKeys::Key>& keys) {
  const auto* list = jwks.if_contains("keys");
  if (list == nullptr)
    return add(keys, from_jwk(jwks));
  if (!list->is_array())
    return;
  for (const auto& item : list->get_array())
    if (item.is_object())
      add(keys, from_jwk(item.get_object()));
}

// The public key in a block of PEM; null: none that can be read.
std::shared_ptr<EVP_PKEY> from_pem(std::string_view name, const unsigned char* der, long size) {
  if (name == PEM_STRING_PUBLIC)
    return shared(d2i_PUBKEY(nullptr, &der, size));
  const Owned<X509, X509_free> certificate(d2i_X509(nullptr, &der, size));
  return certificate ? shared(X509_get_pubkey(certificate.get())) : nullptr;
}

// False: a block is broken or cut off. Blocks of other kinds, and keys of kinds that we do not
// know, are passed over.
bool read_pem(std::string_view bytes, std::vector<TokenKeys::Key>& keys) {
  const Owned<BIO, free_bio> in(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
  std::size_t begun = 0;
  for (auto at = bytes.find(kPemBegin); at != bytes.npos; at = bytes.find(kPemBegin, at + 1))
    ++begun;
  for (; begun > 0; --begun) {
    char *name = nullptr, *header = nullptr;
    unsigned char* der = nullptr;
    long size = 0;
    if (!in || PEM_read_bio(in.get(), &name, &header, &der, &size) != 1)
      break;
    const std::string kind(name);
    const bool is_ours = kind == PEM_STRING_PUBLIC || kind == PEM_STRING_X509;
    const auto key = is_ours ? from_pem(kind, der, size) : nullptr;
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    if (is_ours && !key)
      break;
    if (auto algorithm = key ? algorithm_of(key.get()) : ""; !algorithm.empty())
      add(keys, TokenKeys::Key{{}, std::move(algorithm), key, {}});
  }
  ERR_clear_error();
  return begun == 0;
}

std::string_view without_line_end(std::string_view text) {
  if (text.ends_with('\n'))
    text.remove_suffix(1);
  return text.ends_with('\r') ? text.substr(0, text.size() - 1) : text;
}

// One line of characters behind the mark.
Result<void> read_secret(std::string_view text, std::vector<TokenKeys::Key>& keys) {
  const auto secret = without_line_end(text);
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; };
  if (std::any_of(secret.begin(), secret.end(), is_control))
    return malformed("no usable key: behind \"secret:\" is more than one line");
  if (secret.size() < kLeastSecret)
    return malformed("no usable key: the secret is shorter than 32 octets");  // RFC 7518 §3.2
  keys.push_back({{}, "HS256", nullptr, std::string(secret)});
  return {};
}

}  // namespace

// What a file is good for is never guessed (RFC 8725 §3.1): a public key that was cut off, taken
// for a secret, would be a secret that everybody knows.
Result<TokenKeys> TokenKeys::parse(std::string_view bytes) {
  TokenKeys keys;
  if (bytes.starts_with(kSecret)) {
    if (auto read = read_secret(bytes.substr(kSecret.size()), keys.keys_); !read)
      return read.error();
  } else if (bytes.substr(std::min(bytes.size(), bytes.find_first_not_of(" \t\r\n")))
                 .starts_with('{')) {
    const auto jwks = parse_json_object(bytes);
    if (!jwks)
      return malformed(jwks.error().code() == Errc::too_long
                           ? "no usable key: the JSON has too many members, or is nested too deeply"
                           : "no usable key: the JSON is broken or cut off");
    read_jwks(*jwks, keys.keys_);
  } else if (bytes.find(kPemBegin) != bytes.npos) {
    if (!read_pem(bytes, keys.keys_))
      return malformed("no usable key: the PEM is broken or cut off");
  }
  if (keys.keys_.empty())
    return malformed(
        "no usable key: a JWKS, PEM public keys, or a line of \"secret:\" and a secret of 32 "
        "octets is needed");
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
