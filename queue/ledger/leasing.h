// What is handed out when: due work in the order of its time, fairly among sites and domains.
//
// Each domain has at most settings.leased_per_domain messages out, shared by those who send
// (lane_shares.h); each site at most as many as are still free: one slow site takes at most half of
// all, two a third each, so there is always room for one that was idle. A site that failed gets one
// probe.
//
// The times of messages go by themselves, whoever has the mail: a delay notice names those in hand,
// too, and delivery is asked to end what has waited there for too long.
//
// A message for very many recipients is handed out in parts, each by a lease of its own; what is out
// of it at one time is limited as a whole and for each domain, and the next part goes out when some
// of that has ended.
#pragma once

#include "queue/ledger/damaged_mail.h"
#include "queue/ledger/lane_shares.h"
#include "queue/ledger/pausing.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace postrider::queue {

class Leasing {
 public:
  Leasing(QueueState& state, NextLook& look, DamagedMail& damaged, Pausing& pausing)
      : state_(state), look_(look), damaged_(damaged), pausing_(pausing), lanes_(state) {}

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
  // Leases that ask for no attempt, and may be out though there is no room.
  static std::size_t most_aside(std::size_t messages) {
    return std::min<std::size_t>(64, messages / 8);
  }
  bool has_room(const Budget& budget) const;
  std::size_t share(const Budget& budget, std::size_t out, bool is_probed) const;
  Result<void> lease_deadlines(Budget& budget, Effects& effects);
  Result<Lease::Recipient> named_with_reason(mail::MessageId id, const RecipientRow& recipient,
                                             Lease::Reason notice);
  Result<void> land_late(Effects& effects);
  Result<void> lease_deadline(mail::MessageId id, Effects& effects);
  Result<void> tell_of_delay(mail::MessageId id, const MessageRow& row,
                             std::span<const RecipientRow> waiting, Effects& effects);
  Result<void> end_late(mail::MessageId id, Lease::Reason reason,
                        std::span<const RecipientRow> wanted, Effects& effects);
  Result<void> lease_notice(mail::MessageId id, Lease::Reason reason, const StoredMessage& message,
                            std::span<const RecipientRow> wanted, Effects& effects);
  Result<std::optional<mail::Outcome>> reason_of(mail::MessageId id, const RecipientRow& recipient,
                                                 Lease::Reason notice);
  Result<void> lease_site(std::int64_t site, Budget& budget, Effects& effects);
  Result<void> lease_domain(std::int64_t site, std::int64_t domain, std::size_t most,
                            Budget& budget, Effects& effects);
  Result<void> lease_message(const DueIndex::DueMessage& due, std::int64_t domain,
                             Effects& effects);
  // Of a message for very many: what the transaction hands out.
  struct Part {
    struct Taken {
      Lease::Recipient recipient;
      Leased::Place place;
    };
    std::vector<Taken> taken;
    std::unordered_map<std::int64_t, std::size_t> out;  // recipients, by domain, these included
    std::size_t all_out = 0;
    bool is_expired = false;  // all of it ends by its deadline
  };
  Result<Part*> part_of(mail::MessageId id);
  Result<void> take_part(const DueIndex::DueMessage& due, std::int64_t domain, Effects& effects);
  Result<void> lease_parts(Effects& effects);
  Result<void> lease_part(mail::MessageId id, Part part, Effects& effects);
  Result<std::vector<RecipientRow>> load_wanted(mail::MessageId id, const MessageRow& row);
  Result<StoredMessage> load_checked(mail::MessageId id);
  Result<StoredMessage> load_leased(mail::MessageId id);
  void look_again_after(const Record& record, const Leased& leased);
  Result<bool> is_paused(std::int64_t domain);
  Result<void> park(mail::MessageId id, std::span<const RecipientRow> alive, const PauseRow& pause);
  void rest(const Record& record, const Leased& leased);
  bool is_resting(std::int64_t domain) const;
  void end_rests();

  QueueState& state_;
  NextLook& look_;
  DamagedMail& damaged_;
  Pausing& pausing_;
  LaneShares lanes_;
  std::size_t parked_ = 0;         // messages of paused senders, in this transaction
  bool stopped_at_limit_ = false;  // there was more than the limits of all allowed
  bool has_more_deadlines_ = false;
  // Where there is more than was handed out, and how many were out then.
  std::unordered_map<std::int64_t, std::size_t> wanting_sites_, wanting_domains_;
  std::unordered_set<std::int64_t> large_;        // messages that are known to have very many
  std::unordered_map<std::int64_t, Part> parts_;  // of these, in this transaction
  std::size_t left_of_large_ = 0;                 // recipients, in this transaction
  // Of these where there may be more than was handed out: how many are to end before the next look.
  std::unordered_map<std::int64_t, std::size_t> wanting_large_;
  // Domains whose mail came back untried: not handed out again at once.
  std::unordered_map<std::int64_t, SteadyTime> resting_;
};

}  // namespace postrider::queue
