// What the queue thread knows and does, without the thread: each call is a part of one transaction
// that the caller (queue/writer/writer.h) begins and commits. Nothing here waits, posts or syncs,
// and nothing knows SQL.
//
//   Intake       new mail, and mail that comes back after a stop
//   Leasing      what is handed out when
//   Landing      rows for very many recipients, before that
//   Recording    what delivery says came of it
//   Changing     what administrators do to many messages
//   Pausing      what they keep from being handed out
//   Deferring    what waits for sites in trouble
//   Releasing    what waits for a time that its sender chose, when the clock has jumped
//   DamagedMail  what cannot be read as it was stored
#pragma once

#include "queue/ledger/changing.h"
#include "queue/ledger/pausing.h"
#include "queue/ledger/recording.h"
#include "queue/ledger/releasing.h"

namespace postrider::queue {

class Ledger {
 public:
  Ledger(Spool& spool, mail::MessageIds& ids, QueueSettings settings, Log& log)
      : state_(spool, ids, log, std::move(settings)) {}

  Intake& intake() { return intake_; }
  Leasing& leasing() { return leasing_; }
  Landing& landing() { return landing_; }
  Recording& recording() { return recording_; }
  Changing& changing() { return changing_; }
  Pausing& pausing() { return pausing_; }
  Deferring& deferring() { return deferring_; }
  Releasing& releasing() { return releasing_; }
  DamagedMail& damaged() { return damaged_; }
  const DamagedMail& damaged() const { return damaged_; }
  Facts& facts() { return state_.facts; }
  const Leases& leases() const { return state_.leases; }
  const QueueTime& time() const { return state_.time; }
  const QueueSettings& settings() const { return state_.settings; }

  // Null: it is closed, and nothing that stores is to be called.
  void use(Store* store) { state_.store = store; }
  // The spool stays what it was.
  void adopt(QueueSettings settings);
  void set_consumer(bool is_there) { state_.has_consumer = is_there; }
  // At start: as QueueTime::resume(). ramp: for so long work is handed out slowly.
  void resume(Duration shift, TimePoint last_seen, const Clock& clock, Duration ramp);
  void observe(const Clock& clock);
  // Takes back what a failed transaction did in memory.
  void undo(Effects& effects);

  // Whether there is somebody to hand out to, and lease_due() has something to do now; or when.
  bool is_work_due() const { return state_.has_consumer && look_.is_due(state_.now()); }
  bool has_consumer() const { return state_.has_consumer; }
  std::int64_t next_due() const { return look_.next(); }
  std::int64_t now() const { return state_.now(); }
  void look_again() { look_.at_once(); }

 private:
  QueueState state_;
  NextLook look_;
  DamagedMail damaged_{state_, look_};
  Deferring deferring_{state_, damaged_};
  Releasing releasing_{state_, look_};
  Landing landing_{state_, look_, deferring_};
  Intake intake_{state_, look_, damaged_, deferring_, landing_};
  Pausing pausing_{state_, look_};
  Leasing leasing_{state_, look_, damaged_, pausing_};
  Recording recording_{state_, look_, intake_, leasing_, deferring_};
  Changing changing_{state_, look_, deferring_};
};

}  // namespace postrider::queue
