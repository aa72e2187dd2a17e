// Messages with so many recipients that giving rows to all of them would keep new mail waiting.
// Before the first record of one is stored, its recipients get their rows a piece a transaction.
// Until the last piece the message stays where it landed: what stops in between lands again as a
// whole.
#pragma once

#include "queue/ledger/queue_state.h"

#include <deque>

namespace postrider::queue {

class Landing {
 public:
  Landing(QueueState& state, NextLook& look) : state_(state), look_(look) {}

  bool is_busy() const { return !under_way_.empty(); }
  // Whether the record's message has to get its rows first, which is begun.
  bool has_to_wait(const Record& record);
  // All that wait where they landed: for what changes rows.
  void begin_all();
  // The next piece.
  Result<void> go_on(Effects& effects);
  void committed();
  // Rows that are there already stay.
  void start_over();

 private:
  struct UnderWay {
    std::shared_ptr<const mail::Message> message;
    std::size_t next = 0;  // recipient
    bool is_done = false;
  };
  void begin(const Leased& leased);
  Result<void> land_piece(UnderWay& each, Leased& leased, Effects& effects);

  QueueState& state_;
  NextLook& look_;
  std::deque<UnderWay> under_way_;
};

}  // namespace postrider::queue
