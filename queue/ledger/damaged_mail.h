// Mail that cannot be read as it was stored: held, for an administrator decides; passed over where
// not even that can be stored.
//
// Once SQLite has read a damaged page, it writes nothing more in that transaction. So a message
// that fails one is remembered, and the transaction is done again: then it is held without being
// read.
#pragma once

#include "queue/ledger/queue_state.h"

#include <string>
#include <unordered_map>

namespace postrider::queue {

class DamagedMail {
 public:
  DamagedMail(QueueState& state, NextLook& look) : state_(state), look_(look) {}

  Result<void> quarantine(mail::MessageId id, const std::string& why, Effects& effects);
  // A landed row that does not decode.
  Result<void> quarantine_incoming(mail::MessageId id, const std::string& why);
  // For an error met with one message. Damage holds the message. What passes (no descriptors left,
  // a folder closed by mistake, a sector that cannot be read) lets it wait, without harm to the
  // rest; only what else the database says fails the transaction.
  Result<void> hold_or_wait(mail::MessageId id, const Error& error, Effects& effects);
  // Those that were found before.
  Result<void> hold_known(Effects& effects);
  // Where nothing can be stored of a message, because its rows stand on the damaged page, it stays
  // as it is until the next start; ten minutes if the page cannot be read now. Gives back the error.
  Error pass_over(mail::MessageId id, const Error& error);
  bool is_passed_over(mail::MessageId id) const;
  std::size_t passed_over() const { return passed_over_.size(); }

  // Whether the transaction failed for a damaged message that was not known before.
  // Or for the table of facts, which is then left alone.
  bool found() {
    const bool has_failed = state_.facts.has_failed();
    return std::exchange(found_, false) || has_failed;
  }
  void committed() { damaged_.clear(); }
  void forget();  // it has been repaired

 private:
  Result<void> state_held(mail::MessageId id, const std::string& why, Effects& effects);
  Result<void> hold(mail::MessageId id, const std::string& why, Effects& effects);
  Result<void> hold_or_postpone(mail::MessageId id, const Error& why, Effects& effects);
  Result<void> postpone(mail::MessageId id, const Error& error, Effects& effects);

  QueueState& state_;
  NextLook& look_;
  std::unordered_map<std::int64_t, Error> damaged_;  // found, not held yet; and why
  // Messages whose rows cannot be changed either, and until when they are left alone.
  std::unordered_map<std::int64_t, SteadyTime> passed_over_;
  bool found_ = false;
};

}  // namespace postrider::queue
