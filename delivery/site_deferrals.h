// Sites that can be reached and take nothing: what each has only put off, recipient by recipient,
// since it last took one. A site's health knows nothing of them, for its connections are well.
#pragma once

#include "base/time.h"
#include "mail/outcome.h"

#include <cstdint>
#include <unordered_map>

namespace postrider::delivery {

class SiteDeferrals {
 public:
  // From here on people are told of it; fewer are the usual greylisting.
  static constexpr std::uint64_t kMany = 20;

  struct Deferred {
    std::uint64_t recipients = 0;
    TimePoint since;
    mail::Outcome last;
  };

  // site: its handle; 0: none.
  void note(std::uint64_t site, const mail::Outcome& outcome, TimePoint now);
  // Null: it takes mail, or has not put off much yet.
  const Deferred* find(std::uint64_t site) const;

 private:
  static constexpr std::size_t kMost = 20'000;  // sites; beyond, it begins anew
  std::unordered_map<std::uint64_t, Deferred> sites_;
};

}  // namespace postrider::delivery
