// Messages with so many recipients that giving rows to all of them at once would keep new mail
// waiting. Their recipients get their rows a piece a transaction, and are handed out when all have
// theirs. Until the last piece the message stays where it landed, under a lease that nobody else
// knows of: what stops in between lands again as a whole.
#pragma once

#include "queue/ledger/deferring.h"

#include <deque>

namespace postrider::queue {

class Landing {
 public:
  Landing(QueueState& state, NextLook& look, Deferring& deferring)
      : state_(state), look_(look), deferring_(deferring) {}

  bool is_busy() const { return !under_way_.empty(); }
  // A change waits for those that land, so that no more may begin to.
  bool is_awaited() const { return is_awaited_; }
  void set_awaited(bool is_awaited) { is_awaited_ = is_awaited; }
  // Requires: it is stored where it lands.
  void begin(std::shared_ptr<const mail::Message> message, std::uint64_t lane, Effects& effects);
  // The next piece.
  Result<void> go_on(Effects& effects);
  void committed();
  // Rows that are there already stay.
  void start_over();

 private:
  struct UnderWay {
    std::shared_ptr<const mail::Message> message;
    std::size_t next = 0;       // recipient
    bool is_deferred = false;   // some wait for sites in trouble
    std::int64_t due = kNever;  // one time for all, so that they are handed out together
    bool is_done = false;
  };
  Result<void> land_piece(UnderWay& each, Effects& effects);
  Result<void> tell_deferred(UnderWay& each, Effects& effects);
  void end(UnderWay& each, std::uint64_t lease, Effects& effects);

  QueueState& state_;
  NextLook& look_;
  Deferring& deferring_;
  std::deque<UnderWay> under_way_;
  bool is_awaited_ = false;
};

}  // namespace postrider::queue
