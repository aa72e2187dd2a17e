#include "mailauth/keys.h"

#include "base/assert.h"
#include "base/base64.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <optional>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kMostKeyBytes = 4096;
constexpr int kMostExponentBits = 33;
constexpr std::size_t kEd25519Size = 32;
constexpr std::size_t kEd25519SignatureSize = 64;

struct FreeAny {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
  void operator()(BIGNUM* number) const { BN_free(number); }
  void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
  void operator()(OSSL_PARAM* parameters) const { OSSL_PARAM_free(parameters); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
template <class T>
using Owned = std::unique_ptr<T, FreeAny>;

// OpenSSL's memory of its errors is the thread's, and others read it.
class Quiet {
 public:
  Quiet() { ERR_set_mark(); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  ~Quiet() { ERR_pop_to_mark(); }
};

const unsigned char* octets(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

unsigned char* octets(std::string& bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

bool exponent_is_sound(const EVP_PKEY* key) {
  BIGNUM* raw = nullptr;
  if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &raw) != 1)
    return false;
  const Owned<BIGNUM> exponent(raw);
  return BN_is_odd(raw) == 1 && BN_num_bits(raw) <= kMostExponentBits && BN_is_one(raw) == 0;
}

std::optional<Error> rsa_fault(const EVP_PKEY* key) {
  const auto bits = static_cast<unsigned>(EVP_PKEY_get_bits(key));
  if (bits < kLeastRsaBits)
    return Error(Errc::refused, "RSA key of " + std::to_string(bits) + " bits is too short");
  if (bits > kMostRsaBits)
    return Error(Errc::refused, "RSA key of " + std::to_string(bits) + " bits is too long");
  if (!exponent_is_sound(key))
    return Error(Errc::refused, "RSA key with an unsuitable exponent");
  return std::nullopt;
}

// Reads DER (ITU-T X.690) as far as RSA keys need it: lengths of up to two octets, in their
// shortest form.
class DerReader {
 public:
  explicit DerReader(std::string_view bytes) : rest_(bytes) {}

  // What the next element holds, if it has this tag.
  std::optional<std::string_view> take(unsigned char tag) {
    if (rest_.size() < 2 || octet(0) != tag)
      return std::nullopt;
    std::size_t length = octet(1), head = 2;
    if (length >= 0x80) {
      head += length - 0x80;
      if (head > 4 || head == 2 || rest_.size() < head)
        return std::nullopt;
      length = head == 3 ? octet(2) : std::size_t{octet(2)} * 256 + octet(3);
      if (length < (head == 3 ? 0x80U : 0x100U))
        return std::nullopt;
    }
    if (rest_.size() - head < length)
      return std::nullopt;
    const auto content = rest_.substr(head, length);
    rest_.remove_prefix(head + length);
    return content;
  }
  bool at_end() const { return rest_.empty(); }

 private:
  unsigned char octet(std::size_t at) const { return static_cast<unsigned char>(rest_[at]); }
  std::string_view rest_;
};

constexpr unsigned char kInteger = 0x02, kBitString = 0x03, kNull = 0x05, kObject = 0x06,
                        kSequence = 0x30;
constexpr std::string_view kRsaEncryption("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", 9);

// A positive number without a sign octet.
std::optional<std::string_view> take_number(DerReader& reader) {
  auto number = reader.take(kInteger);
  if (!number || number->empty() || static_cast<unsigned char>(number->front()) >= 0x80)
    return std::nullopt;
  if (number->size() > 1 && number->front() == '\0')
    number->remove_prefix(1);
  return number;
}

struct RsaNumbers {
  std::string_view modulus;
  std::string_view exponent;
};

// RSAPublicKey (RFC 8017 §A.1.1)
std::optional<RsaNumbers> read_rsa_public_key(std::string_view der) {
  DerReader outer(der);
  const auto sequence = outer.take(kSequence);
  if (!sequence || !outer.at_end())
    return std::nullopt;
  DerReader inner(*sequence);
  const auto modulus = take_number(inner);
  const auto exponent = modulus ? take_number(inner) : std::nullopt;
  if (!exponent || !inner.at_end())
    return std::nullopt;
  return RsaNumbers{*modulus, *exponent};
}

// The RSAPublicKey in a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 3279 §2.3.1).
std::optional<std::string_view> read_public_key_info(std::string_view der) {
  DerReader outer(der);
  const auto sequence = outer.take(kSequence);
  if (!sequence || !outer.at_end())
    return std::nullopt;
  DerReader info(*sequence);
  const auto algorithm = info.take(kSequence);
  const auto bits = algorithm ? info.take(kBitString) : std::nullopt;
  if (!bits || !info.at_end() || !bits->starts_with('\0'))
    return std::nullopt;
  DerReader identifier(*algorithm);
  const bool is_rsa = identifier.take(kObject) == kRsaEncryption;
  const auto parameters = identifier.take(kNull);
  if (!is_rsa || !identifier.at_end() || (parameters && !parameters->empty()))
    return std::nullopt;
  return bits->substr(1);
}

Owned<BIGNUM> number_of(std::string_view octets_of_it) {
  return Owned<BIGNUM>(
      BN_bin2bn(octets(octets_of_it), static_cast<int>(octets_of_it.size()), nullptr));
}

// Both structures that are in use. Read here and not by OpenSSL's decoders, which take five times
// as long as the verification, and try more than RSA.
KeyHandle decode_rsa(std::string_view der) {
  const auto inner = read_public_key_info(der);
  const auto numbers = read_rsa_public_key(inner ? *inner : der);
  if (!numbers)
    return nullptr;
  const auto modulus = number_of(numbers->modulus);
  const auto exponent = number_of(numbers->exponent);
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  POSTRIDER_ASSERT(modulus && exponent && builder);
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get());
  const Owned<OSSL_PARAM> parameters(OSSL_PARAM_BLD_to_param(builder.get()));
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  EVP_PKEY* key = nullptr;
  if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
    return nullptr;
  return KeyHandle(key);
}

// No question on a terminal: an encrypted key cannot be read.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

Result<KeyType> usable_type(const EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "ED25519") == 1)
    return KeyType::ed25519;
  if (EVP_PKEY_is_a(key, "RSA") != 1)
    return Error(Errc::unsupported, "neither an RSA nor an Ed25519 key");
  if (const auto fault = rsa_fault(key))
    return *fault;
  return KeyType::rsa;
}

Owned<EVP_PKEY_CTX> rsa_context(EVP_PKEY* key, int (*init)(EVP_PKEY_CTX*)) {
  Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new(key, nullptr));
  if (!context || init(context.get()) != 1 ||
      EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PADDING) != 1 ||
      EVP_PKEY_CTX_set_signature_md(context.get(), EVP_sha256()) != 1)
    return nullptr;
  return context;
}

bool rsa_verifies(EVP_PKEY* key, std::string_view digest, std::string_view signature) {
  const auto context = rsa_context(key, EVP_PKEY_verify_init);
  return context && EVP_PKEY_verify(context.get(), octets(signature), signature.size(),
                                    octets(digest), digest.size()) == 1;
}

bool ed25519_verifies(EVP_PKEY* key, std::string_view digest, std::string_view signature) {
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  return signature.size() == kEd25519SignatureSize && context &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
         EVP_DigestVerify(context.get(), octets(signature), signature.size(), octets(digest),
                          digest.size()) == 1;
}

std::string rsa_sign(EVP_PKEY* key, std::string_view digest) {
  const auto context = rsa_context(key, EVP_PKEY_sign_init);
  std::size_t size = static_cast<std::size_t>(EVP_PKEY_get_size(key));
  std::string out(size, '\0');
  if (!context ||
      EVP_PKEY_sign(context.get(), octets(out), &size, octets(digest), digest.size()) != 1)
    return {};
  out.resize(size);
  return out;
}

std::string ed25519_sign(EVP_PKEY* key, std::string_view digest) {
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  std::size_t size = kEd25519SignatureSize;
  std::string out(size, '\0');
  if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), octets(out), &size, octets(digest), digest.size()) != 1)
    return {};
  return out;
}

std::string written(BIO* bio) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<std::size_t>(size));
}

unsigned bits_of(const EVP_PKEY* key) {
  return static_cast<unsigned>(EVP_PKEY_get_bits(key));
}

}  // namespace

std::string_view to_string(KeyType type) {
  return type == KeyType::rsa ? "rsa" : "ed25519";
}

std::string_view algorithm_of(KeyType type) {
  return type == KeyType::rsa ? "rsa-sha256" : "ed25519-sha256";
}

void FreeKey::operator()(evp_pkey_st* key) const {
  EVP_PKEY_free(key);
}

PublicKey::PublicKey(KeyHandle key, KeyType type)
    : key_(std::move(key)), type_(type), bits_(bits_of(key_.get())) {}

Result<PublicKey> PublicKey::from_bytes(KeyType type, std::string_view bytes) {
  const Quiet quiet;
  if (bytes.size() > kMostKeyBytes)
    return Error(Errc::refused, "key too long");
  if (type == KeyType::ed25519) {
    if (bytes.size() != kEd25519Size)
      return malformed("Ed25519 key is not of 32 octets");
    KeyHandle key(
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, octets(bytes), bytes.size()));
    if (!key)
      return malformed("invalid Ed25519 key");
    return PublicKey(std::move(key), type);
  }
  auto key = decode_rsa(bytes);
  if (!key)
    return malformed("invalid RSA key");
  if (const auto fault = rsa_fault(key.get()))
    return *fault;
  return PublicKey(std::move(key), type);
}

bool PublicKey::verifies(std::string_view digest, std::string_view signature) const {
  const Quiet quiet;
  return type_ == KeyType::rsa ? rsa_verifies(key_.get(), digest, signature)
                               : ed25519_verifies(key_.get(), digest, signature);
}

PrivateKey::PrivateKey(KeyHandle key, KeyType type)
    : key_(std::move(key)), type_(type), bits_(bits_of(key_.get())) {}

Result<PrivateKey> PrivateKey::from_pem(std::string_view pem) {
  const Quiet quiet;
  const Owned<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  POSTRIDER_ASSERT(bio != nullptr);
  KeyHandle key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  if (!key)
    return malformed("read private key");
  auto type = usable_type(key.get());
  if (!type)
    return type.error();
  return PrivateKey(std::move(key), *type);
}

Result<PrivateKey> PrivateKey::generate(KeyType type, unsigned bits) {
  const Quiet quiet;
  if (type == KeyType::rsa && (bits < kLeastSigningRsaBits || bits > kMostRsaBits))
    return Error(Errc::refused, "RSA key of " + std::to_string(bits) + " bits");
  KeyHandle key(type == KeyType::rsa
                    ? EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", static_cast<std::size_t>(bits))
                    : EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (!key)
    return Error(Errc::unsupported, "generate key");
  return PrivateKey(std::move(key), type);
}

std::string PrivateKey::pem() const {
  const Owned<BIO> bio(BIO_new(BIO_s_secmem()));
  POSTRIDER_ASSERT(bio && PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0,
                                                        nullptr, nullptr) == 1);
  return written(bio.get());
}

std::string PrivateKey::public_data() const {
  if (type_ == KeyType::ed25519) {
    std::string raw(kEd25519Size, '\0');
    std::size_t size = raw.size();
    POSTRIDER_ASSERT(EVP_PKEY_get_raw_public_key(key_.get(), octets(raw), &size) == 1);
    return encode_base64(raw);
  }
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key_.get(), &der);
  POSTRIDER_ASSERT(size > 0);
  const auto text =
      encode_base64({reinterpret_cast<const char*>(der), static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  return text;
}

Result<std::string> PrivateKey::sign(std::string_view digest) const {
  const Quiet quiet;
  auto signature =
      type_ == KeyType::rsa ? rsa_sign(key_.get(), digest) : ed25519_sign(key_.get(), digest);
  if (signature.empty())
    return Error(Errc::unsupported, "sign with the private key");
  return signature;
}

}  // namespace postrider::mailauth
