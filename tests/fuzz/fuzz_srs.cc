// Any mailbox that is rewritten comes back as what it means; what is reversed without our hash is
// refused; rewriting by another host on the way changes neither.
#include "base/assert.h"
#include "mail/address.h"
#include "mailauth/srs.h"

#include <cstdint>
#include <string>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

Srs srs_of(const std::string& domain, const std::string& key) {
  SrsRules rules;
  rules.domain = domain;
  rules.keys = {key};
  return Srs(rules);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Srs here = srs_of("here.test", "one"), there = srs_of("there.test", "two");
  const TimePoint now(std::chrono::hours(24 * 20786));
  const std::string mailbox(reinterpret_cast<const char*>(data), size);
  const bool is_srs = Srs::is_srs(mailbox);
  if (const auto reversed = here.reverse(mailbox, now))
    POSTRIDER_ASSERT(is_srs && mail::parse_mailbox(*reversed, true));
  (void)here.reverse(mailbox + "@here.test", now);
  const auto first = here.forward(mailbox, now);
  if (!first || *first == mailbox)
    return 0;
  POSTRIDER_ASSERT(first->size() <= 254 && Srs::is_srs(*first));
  const auto back = here.reverse(*first, now);
  POSTRIDER_ASSERT(back);
  const auto again = here.forward(*back, now);
  POSTRIDER_ASSERT(again && *again == *first);
  const auto second = there.forward(*first, now);
  if (second) {
    const auto between = there.reverse(*second, now);
    POSTRIDER_ASSERT(between);
    POSTRIDER_ASSERT(*between == *first || first->find("SRS1") <= 1);  // perhaps quoted
  }
  return 0;
}
