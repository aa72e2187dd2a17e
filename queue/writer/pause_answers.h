// Pauses and resumes as parts of a transaction, and who waits to hear that they were stored.
#pragma once

#include "queue/ledger/pausing.h"
#include "queue/writer/inbox.h"

namespace postrider::queue {

class PauseAnswers {
 public:
  using Orders = std::vector<Inbox::PauseOrder>;

  Result<void> apply(const Orders& orders, Pausing& pausing, Effects& effects);
  // They are stored: delivery gives back what it has in hand of what is paused, then each is
  // answered. consumer may be null. orders is empty then.
  void committed(Orders& orders, const Pausing& pausing, Consumer* consumer);
  static void fail(Orders& orders, const Error& error);

 private:
  static void ask_back(std::vector<Revocation> in_hand, Queue::OnPaused on_done,
                       Consumer& consumer);
  std::vector<Result<PauseDone>> done_;  // of each order
};

}  // namespace postrider::queue
