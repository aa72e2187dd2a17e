#include "base/net/tls/tls_openssl.h"

#include "base/digest.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>

#include <memory>

namespace postrider {

std::string tls_reason() {
  const auto number = ERR_peek_error();
  const char* reason = number == 0 ? nullptr : ERR_reason_error_string(number);
  return reason == nullptr ? "unknown reason" : reason;
}

Error tls_error(const std::string& step) {
  Error error(Errc::tls, step + ": " + tls_reason());
  ERR_clear_error();
  return error;
}

std::string common_name(const x509_st& certificate) {
  const X509_NAME* subject = X509_get_subject_name(&certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0)
    return {};
  unsigned char* text = nullptr;
  const int size =
      ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (size < 0)
    return {};
  std::string name(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  return name;
}

namespace {

Result<std::string> digest_of(const x509_st& certificate, const EVP_MD* kind) {
  unsigned char room[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (X509_digest(&certificate, kind, room, &size) != 1)
    return tls_error("digest certificate");
  return std::string(reinterpret_cast<const char*>(room), size);
}

}  // namespace

std::string certificate_digest(const x509_st& certificate) {
  const auto digest = digest_of(certificate, EVP_sha256());
  return digest ? encode_hex(*digest) : std::string();
}

std::string public_key_digest(const x509_st& certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(&certificate), &der);
  if (size < 0)
    return {};
  const std::string_view bytes(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  auto digest = encode_hex(sha256(bytes));
  OPENSSL_free(der);
  return digest;
}

Result<std::string> binding_digest(const x509_st& certificate) {
  int digest = NID_undef;
  const int signature = X509_get_signature_nid(&certificate);
  if (OBJ_find_sigid_algs(signature, &digest, nullptr) != 1 || digest == NID_undef)
    return Error(Errc::unsupported, "digest certificate");
  if (digest == NID_md5 || digest == NID_sha1)
    digest = NID_sha256;
  const EVP_MD* kind = EVP_get_digestbynid(digest);
  if (kind == nullptr)
    return Error(Errc::unsupported, "digest certificate");
  return digest_of(certificate, kind);
}

namespace {

// Each element becomes a few allocations: a name of one letter takes about a hundred octets.
constexpr std::size_t kOfElement = 128;
// Its encodings, whole and of parts.
constexpr std::size_t kCopies = 3;
constexpr int kDeepest = 32;

// Elements of BER between these, with those inside; in_string: there may be none. Of what is not in the form of DER, as
// many as there can be.
std::size_t elements_between(const unsigned char* at, const unsigned char* end, bool in_string,
                             int depth) {
  std::size_t sum = 0;
  while (at < end) {
    const auto most = sum + static_cast<std::size_t>(end - at) / 2;
    long size = 0;
    int tag = 0;
    int kind = 0;
    const int form = ASN1_get_object(&at, &size, &tag, &kind, end - at);
    if ((form & 0x80) != 0)
      return in_string ? sum : most;
    if ((form & 1) != 0 || depth == kDeepest)
      return most;
    ++sum;
    const bool is_constructed = (form & V_ASN1_CONSTRUCTED) != 0;
    // Values of extensions are elements in a string of octets.
    if (is_constructed || tag == V_ASN1_OCTET_STRING)
      sum += elements_between(at, at + size, !is_constructed, depth + 1);
    at += size;
  }
  return sum;
}

}  // namespace

std::size_t octets_in_memory(const x509_st& certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(&certificate, &der);
  if (size < 0)
    return 0;
  const auto elements = elements_between(der, der + size, false, 0);
  OPENSSL_free(der);
  ERR_clear_error();
  return elements * kOfElement + static_cast<std::size_t>(size) * kCopies;
}

}  // namespace postrider
