// What is known of the MTA-STS policies of domains, and what to do about one now (RFC 8461 §3.3,
// §5.1). Pure: no clock, no I/O.
//
//   unknown --announced--> fetch --ok--> in force --half a day or half its age--> refreshed behind
//                            |              |  \--another id is announced--> fetch, wait for it
//                            |              '--max_age over--> unknown
//                            '--failed--> left alone for five minutes; a policy in force stays
//
// What DNS says never ends a policy that is in force: an attacker who controls DNS would say that
// there is none (attacks.md E15). Bounded; the one that expires first gives way.
#pragma once

#include "delivery/tls/sts/policy_file.h"

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

// What _mta-sts.DOMAIN said.
struct StsAnnouncement {
  enum class Kind : std::uint8_t { none, announced, unknown };
  Kind kind = Kind::none;
  std::string id;  // of announced
};

struct StsEntry {
  std::shared_ptr<const StsPolicy> policy;  // with domain and id
  std::string text;                         // as fetched
  TimePoint fetched;
  TimePoint expires;
};

struct StsFailure {
  std::string id;  // that was announced
  TimePoint when;
  TlsResult result = TlsResult::sts_policy_fetch_error;
  std::string detail;
};

enum class StsStep : std::uint8_t {
  use,      // what is known, which may be nothing
  refresh,  // the same, and fetch behind it
  fetch,    // and wait for it
};

class StsCache {
 public:
  explicit StsCache(std::size_t most = 20'000) : most_(most) {}

  StsStep step(const std::string& domain, const StsAnnouncement& announcement, TimePoint now) const;
  // In force at this time, or null.
  const StsEntry* find(const std::string& domain, TimePoint now) const;
  // The same, or just fetched: a policy counts for the mail that it was fetched for, also with
  // "max_age: 0".
  const StsEntry* find_or_fetched(const std::string& domain, TimePoint now) const;
  // Since the last fetch that worked.
  const StsFailure* failure(const std::string& domain) const;

  const StsEntry& store(const std::string& domain, std::string id, StsPolicyFile file,
                        std::string text, TimePoint now);
  void fail(const std::string& domain, StsFailure failure);
  // Of a stored entry; an expired one is dropped.
  void restore(const std::string& domain, StsEntry entry, TimePoint now);
  // The domains dropped since the last call: their files can go.
  std::vector<std::string> take_dropped() { return std::exchange(dropped_, {}); }
  std::size_t size() const { return entries_.size(); }

 private:
  bool may_try(const std::string& domain, const std::string& id, TimePoint now) const;
  void make_room(TimePoint now);

  std::size_t most_;
  std::unordered_map<std::string, StsEntry> entries_;
  std::unordered_map<std::string, StsFailure> failures_;
  std::vector<std::string> dropped_;
};

// One entry as kept on disk: text, so that an administrator can read it. What comes back from there
// counts as outside bytes.
std::string encode(const StsEntry& entry);
Result<StsEntry> decode_sts_entry(const std::string& domain, std::string_view text);

}  // namespace postrider::delivery
