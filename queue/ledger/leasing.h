// What is handed out when: due work in the order of its time, fairly among sites and domains.
//
// Each domain has at most settings.leased_per_domain messages out, each site at most as many as
// are still free: one slow site takes at most half of all, two a third each, so there is always
// room for one that was idle. A site that failed gets one probe.
#pragma once

#include "queue/ledger/damaged_mail.h"
#include "queue/ledger/pausing.h"

namespace postrider::queue {

class Leasing {
 public:
  Leasing(QueueState& state, NextLook& look, DamagedMail& damaged, Pausing& pausing)
      : state_(state), look_(look), damaged_(damaged), pausing_(pausing) {}

  // Hands out what is due, within the limits.
  Result<void> lease_due(Effects& effects);
  // The record has ended the lease, or a part of it.
  void recorded(const Record& record, const Leased& leased);

 private:
  struct Budget {  // limits, what is out included
    std::size_t messages = 0;
    std::size_t bytes = 0;
    std::size_t now = 0;  // of messages, in this transaction
  };
  bool has_room(const Budget& budget) const;
  std::size_t share(const Budget& budget, std::size_t out, bool is_probed) const;
  Result<void> lease_deadlines(Budget& budget, Effects& effects);
  Result<void> lease_deadline(mail::MessageId id, Effects& effects);
  Result<std::optional<mail::Outcome>> reason_of(mail::MessageId id, const RecipientRow& recipient,
                                                 Lease::Reason notice);
  Result<void> lease_site(std::int64_t site, Budget& budget, Effects& effects);
  Result<void> lease_domain(std::int64_t site, std::int64_t domain, std::size_t most,
                            Budget& budget, Effects& effects);
  Result<void> lease_message(mail::MessageId id, Effects& effects);
  Result<StoredMessage> load_checked(mail::MessageId id);
  Result<StoredMessage> load_leased(mail::MessageId id);
  void look_again_after(const Leased& leased);
  Result<bool> is_paused(std::int64_t domain);
  Result<void> park(mail::MessageId id, std::span<const RecipientRow> alive, const PauseRow& pause);
  void rest(const Record& record, const Leased& leased);
  bool is_resting(std::int64_t domain) const;
  void end_rests();

  QueueState& state_;
  NextLook& look_;
  DamagedMail& damaged_;
  Pausing& pausing_;
  std::size_t parked_ = 0;         // messages of paused senders, in this transaction
  bool stopped_at_limit_ = false;  // there was more than the limits of all allowed
  // Where there is more than was handed out, and how many were out then.
  std::unordered_map<std::int64_t, std::size_t> wanting_sites_, wanting_domains_;
  // Domains whose mail came back untried: not handed out again at once.
  std::unordered_map<std::int64_t, SteadyTime> resting_;
};

}  // namespace postrider::queue
