// What delivery says came of a lease.
#pragma once

#include "queue/ledger/intake.h"
#include "queue/ledger/leasing.h"

namespace postrider::queue {

class Recording {
 public:
  Recording(QueueState& state, NextLook& look, Intake& intake, Leasing& leasing,
            Deferring& deferring)
      : state_(state), look_(look), intake_(intake), leasing_(leasing), deferring_(deferring) {}

  Result<void> record(const Record& record, Effects& effects);
  Result<void> set_site(const SiteState& state);
  Result<void> assign_site(const std::string& domain, const std::string& site);

 private:
  std::int64_t in_time(std::int64_t wanted, const mail::Message& message) const;
  RecipientRow after(RecipientRow row, const Record::Result& result, const Leased& leased,
                     std::int64_t expires) const;
  Leases::Node take_lease(const Record& record, std::uint32_t first);
  bool keep_rest(const Record& record, const Leased& leased);
  Result<void> record_landed(const Record& record, const Leased& leased, Effects& effects);
  Result<void> record_waiting(const Record& record, const Leased& leased, Effects& effects);
  Result<void> record_large(const Record& record, const Leased& leased, MessageRow row,
                            Effects& effects);
  Result<bool> store_named(const Record& record, const Leased& leased, MessageRow& row);
  Result<std::vector<RecipientRow>> store_results(const Record& record, const Leased& leased,
                                                  std::vector<RecipientRow>& alive,
                                                  MessageRow& row);
  Result<void> log_attempts(const Record& record, MessageRow& row);
  Result<void> store_notices(const Record& record, Effects& effects);
  Result<void> remove_message(const mail::Message& message, Effects& effects);
  void tell_end(const mail::Message& message, bool by_administrator, Effects& effects);

  QueueState& state_;
  NextLook& look_;
  Intake& intake_;
  Leasing& leasing_;
  Deferring& deferring_;
};

}  // namespace postrider::queue
