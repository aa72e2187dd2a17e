// The messages that DMARC judged, counted for aggregate reports (RFC 9990): under which policy of
// which domain, and of which kind. Pure.
#pragma once

#include "mailauth/dmarc_report.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace postrider::mailauth {

// What was seen in a time. Bounded: whatever strangers send, it holds no more than its limits, and
// what there is no room for is counted as lost. The domains of one organisation, which makes as many as
// it likes, have a quarter of each of them.
class ReportTally {
 public:
  struct Limits {
    std::size_t policies = 10'000;
    std::size_t rows_of_policy = 10'000;
    std::size_t rows = 200'000;
    std::size_t octets = 32U << 20U;  // of memory, about
    std::size_t share = 4;            // the part of each that an organisation has
  };
  static constexpr std::uint64_t kMostMessages = 1ULL << 53U;  // no sum is higher
  using Policies = std::map<std::string, PolicyRows>;

  explicit ReportTally(Limits limits) : limits_(limits) {}
  ReportTally() : ReportTally(Limits()) {}

  // Of one configuration of one domain; sorts by the domain.
  static std::string key_of(const PublishedPolicy& policy);

  // False: there is no room for this kind, and `count` messages are lost.
  bool add(const PublishedPolicy& policy, ReportRow row, std::uint64_t count = 1);
  // Messages for which there was no room, of a policy that has rows; ignored if it has none.
  void add_lost(const std::string& key, std::uint64_t count);
  // Of policies without any.
  void add_lost(std::uint64_t count);
  void remove(const std::string& key);

  const Policies& policies() const { return policies_; }
  const PolicyRows* find(const std::string& key) const;
  bool is_empty() const { return policies_.empty(); }
  std::uint64_t lost_elsewhere() const { return lost_elsewhere_; }
  std::uint64_t lost() const;  // of all
  std::size_t octets() const { return used_.octets; }

 private:
  struct Used {
    std::size_t policies = 0, rows = 0, octets = 0;
  };
  bool has_room(const std::string& organisation, const Used& more) const;
  void use(const std::string& organisation, const Used& more);

  Limits limits_;
  Policies policies_;
  Used used_;
  std::map<std::string, Used> by_organisation_;
  std::uint64_t lost_elsewhere_ = 0;
};

}  // namespace postrider::mailauth
