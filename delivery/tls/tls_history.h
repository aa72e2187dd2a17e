// What the last handshakes with the hosts of a domain gave, for `postrider explain`. Pure; bounded:
// the domain that was silent longest is forgotten first.
#pragma once

#include "delivery/tls/tls_policy.h"

#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

class TlsHistory {
 public:
  explicit TlsHistory(std::size_t most_domains = 2000, std::size_t most_each = 6)
      : most_domains_(most_domains), most_each_(most_each) {}

  void add(const TlsReport& report);
  // The latest first: "2026-11-23T17:00:00.000Z mx1.example.org[192.0.2.1]: certificate-expired, in
  // clear: ...".
  std::vector<std::string> about(const std::string& domain) const;

 private:
  std::size_t most_domains_;
  std::size_t most_each_;
  std::unordered_map<std::string, std::deque<TlsReport>> domains_;
};

}  // namespace postrider::delivery
