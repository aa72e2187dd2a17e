// Sites that can be reached and take nothing: whom each has only put off since it last took one.
// Who is put off again and again is one recipient; who left the queue otherwise is still named. A site's health knows nothing of them, for its connections are well.
#pragma once

#include "base/time.h"
#include "mail/outcome.h"

#include <compare>
#include <cstdint>
#include <set>
#include <unordered_map>

namespace postrider::delivery {

class SiteDeferrals {
 public:
  static constexpr std::size_t kMostNamed = 1000;  // of a site
  struct Recipient {
    std::int64_t message = 0;
    std::uint32_t index = 0;
    auto operator<=>(const Recipient&) const = default;
  };
  struct Deferred {
    std::set<Recipient> named;
    std::uint64_t others = 0;  // beyond those, and each time counts
    std::uint64_t recipients() const { return named.size() + others; }
    TimePoint since;
    mail::Outcome last;
  };

  // site: its handle; 0: none.
  void note(std::uint64_t site, Recipient recipient, const mail::Outcome& outcome, TimePoint now);
  // Null: it takes mail, or has not put off much yet.
  const Deferred* find(std::uint64_t site) const;

 private:
  static constexpr std::size_t kMost = 20'000;  // sites; beyond, it begins anew
  std::unordered_map<std::uint64_t, Deferred> sites_;
};

}  // namespace postrider::delivery
