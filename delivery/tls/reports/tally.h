// Handshakes of each day (UTC) and recipient domain, counted as RFC 8460 §4.3 wants them reported.
// Pure; bounded: what does not fit is still counted in the totals of its policy.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "delivery/reports/report_mail.h"
#include "delivery/tls/tls_policy.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace postrider::delivery {

// Failures that are equal in all that a report says of them.
struct TlsFailure {
  std::string result;  // "certificate-expired"
  std::string from_address, host, helo, address;
  std::string detail;
  std::string code;
  std::uint64_t count = 0;
};

// One policy that was applied, or the lack of one.
struct PolicyTally {
  std::string type;                  // "sts", "tlsa", "no-policy-found"
  std::vector<std::string> strings;  // the policy as published; part of what makes it another one
  std::vector<std::string> hosts;    // of sts: its mx patterns
  std::uint64_t successes = 0, failures = 0;
  std::vector<TlsFailure> details;
};

using DomainTally = std::vector<PolicyTally>;

class TlsTally {
 public:
  struct Limits {
    std::size_t domains = 10'000;  // of all days
    std::size_t policies = 20;     // of a domain and day
    std::size_t details = 50;      // of a policy
  };
  TlsTally() = default;
  explicit TlsTally(Limits limits) : limits_(limits) {}

  void add(const TlsReport& report);
  const std::map<Day, std::map<std::string, DomainTally>>& days() const { return days_; }
  void remove(Day day, const std::string& domain);
  void remove_before(Day day);
  bool is_empty() const { return days_.empty(); }

  // As kept on disk between starts: JSON. What comes back from there counts as outside bytes; the
  // limits hold for it too.
  std::string encode() const;
  static Result<TlsTally> decode(std::string_view text);

 private:
  Limits limits_;
  std::size_t domains_ = 0;
  std::map<Day, std::map<std::string, DomainTally>> days_;
};

}  // namespace postrider::delivery
