// A certificate with its chain and its private key. Immutable, for every thread.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct evp_pkey_st;
struct x509_st;

namespace postrider {

class TlsIdentity {
 public:
  // PEM: the certificate, then its chain; the key without a password. The files may be the same.
  // Errors name the file and what is wrong with it: unreadable, no certificate, no key, a key of
  // another certificate, a kind of key that TLS cannot use.
  static Result<std::shared_ptr<const TlsIdentity>> load(const std::string& certificate_file,
                                                         const std::string& key_file);
  // The same from memory; names are for messages.
  static Result<std::shared_ptr<const TlsIdentity>> parse(std::string_view certificate_pem,
                                                          std::string_view key_pem);

  x509_st* certificate() const { return chain_.front().get(); }
  const std::vector<std::shared_ptr<x509_st>>& chain() const { return chain_; }
  evp_pkey_st* key() const { return key_.get(); }

  const std::string& key_type() const { return key_type_; }  // "RSA", "ECDSA", "Ed25519"
  // Lower case: the subject's alternative names, or its common name if there are none.
  const std::vector<std::string>& names() const { return names_; }
  // "*.example.org" has one label for the star.
  bool is_for(std::string_view host) const;
  TimePoint not_before() const { return not_before_; }
  TimePoint not_after() const { return not_after_; }
  const std::string& fingerprint() const { return fingerprint_; }  // SHA-256, lower-case hex

 private:
  std::vector<std::shared_ptr<x509_st>> chain_;
  std::shared_ptr<evp_pkey_st> key_;
  std::string key_type_;
  std::vector<std::string> names_;
  TimePoint not_before_{};
  TimePoint not_after_{};
  std::string fingerprint_;
};

}  // namespace postrider
