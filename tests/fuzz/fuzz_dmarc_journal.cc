// Any bytes as the journal of a day of DMARC results: no crash, limits kept; what was read of it is
// written and read the same, and every policy in it has rows and a report.
#include "base/assert.h"
#include "delivery/reports/dmarc_ledger.h"

#include <cstddef>
#include <cstdint>
#include <string>

using namespace postrider::delivery;

namespace {

const Day kDay{std::chrono::days(20'780)};

DmarcLedger read(const std::string& text) {
  postrider::mailauth::ReportTally::Limits limits;
  limits.policies = 4;
  limits.rows_of_policy = 8;
  limits.rows = 16;
  DmarcLedger ledger(limits, [] { return std::string("fresh"); });
  (void)ledger.read_journal(kDay, text);
  return ledger;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto ledger = read(std::string(reinterpret_cast<const char*>(data), size));
  POSTRIDER_ASSERT(ledger.take_journal(kDay).empty());
  if (const auto* tally = ledger.tally(kDay)) {
    POSTRIDER_ASSERT(tally->policies().size() <= 4);
    for (const auto& [key, policy] : tally->policies()) {
      POSTRIDER_ASSERT(!policy.rows.empty() && policy.rows.size() <= 8);
      POSTRIDER_ASSERT(ledger.report(kDay, key) != nullptr);
    }
  }
  const auto whole = ledger.whole_journal(kDay);
  POSTRIDER_ASSERT(read(whole).whole_journal(kDay) == whole);
  return 0;
}
