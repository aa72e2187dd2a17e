// Certificates for tests, made on the spot.
#pragma once

#include "base/time.h"

#include <chrono>
#include <string>
#include <vector>

namespace postrider::test {

struct Pem {
  std::string certificate;
  std::string key;
};

struct CertificateWish {
  std::vector<std::string> names = {"mx.test"};  // the first is the common name too
  std::string key_type = "EC";                   // or "RSA", "RSA-1024"
  const Pem* issuer = nullptr;                   // null: signs itself
  bool is_authority = false;
  std::chrono::hours begins{-1};  // from now
  std::chrono::hours ends{24};
};

Pem make_certificate(const CertificateWish& wish);

}  // namespace postrider::test
