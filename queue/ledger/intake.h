// New mail, and mail that comes back after a stop.
#pragma once

#include "queue/ledger/deferring.h"
#include "queue/ledger/landing.h"

namespace postrider::queue {

class Intake {
 public:
  Intake(QueueState& state, NextLook& look, DamagedMail& damaged, Deferring& deferring,
         Landing& landing)
      : state_(state), look_(look), damaged_(damaged), deferring_(deferring), landing_(landing) {}

  // Stores one message; not for delivery but on hold, if there is a reason. Its own fault (a
  // constraint) comes back as `refused`, without harm to the transaction; any other failure is the
  // transaction's.
  Result<void> submit(const Submission& submission, std::string_view head, Effects& effects,
                      Result<void>& refused);
  // At start, in one transaction: mail that was in delivery's hands waits again. Returns how many.
  Result<std::size_t> recover();
  // When it has been opened again: what is leased and is not where it landed has moved.
  Result<void> follow_landed();

 private:
  Result<void> submit_waiting(const Submission& submission, std::string_view head, Effects& effects,
                              Result<void>& refused);
  bool has_room(std::uint64_t lane) const;
  bool lands(const Submission& submission, std::uint64_t lane) const;
  bool is_blocked(const mail::Message& message) const;
  Result<void> tell_deferred(const mail::Message& message, const std::string& next_hop,
                             Effects& effects);
  Result<void> land_again(mail::MessageId id);

  QueueState& state_;
  NextLook& look_;
  DamagedMail& damaged_;
  Deferring& deferring_;
  Landing& landing_;
};

}  // namespace postrider::queue
