// Opens the store, takes it up again after a stop or a failure, and closes it.
//
//   closed --open()--> open --failed()--> failed --reopen()--> open
//                       |                   |  (again and again, ever later; after a minute `lost`)
//                       +---close()--> closed
#pragma once

#include "queue/store/log_check.h"
#include "queue/writer/open_store.h"
#include "queue/writer/repairs.h"

#include <atomic>

namespace postrider::queue {

class StoreKeeper {
 public:
  StoreKeeper(Spool& spool, mail::MessageIds& ids, Ledger& ledger, const Clock& clock, Log& log);

  // What else has the database open: closed before it is opened again, so that nothing of what
  // SQLite knew of the files is left. On the queue thread.
  struct Readers {
    std::function<void()> close;
    std::function<Result<void>()> open;
  };
  void use(Readers readers) { readers_ = std::move(readers); }

  // At start: opens, recovers. `vfs` as in Database::open. On a full disk too: then nothing is
  // recovered yet, and owes_recovery().
  Result<void> open(const char* vfs);
  // Whether what an open() on a full disk could not write is still to be written, before all else.
  bool owes_recovery() const { return owes_recovery_; }
  Result<void> pay_recovery();  // in a transaction
  void paid_recovery();         // which was committed
  // As a clean stop, if files of messages that have ended are gone; otherwise the next start looks
  // for them.
  void close(bool are_files_removed);
  // The store cannot be used any more as it is. made: messages whose senders have heard so, though
  // what failed may still have reached the disk.
  void note_failure(const Error& error, const std::vector<mail::MessageId>& made);
  void failed();
  void stored() { failures_ = 0; }  // a transaction, after which all is well
  // Once its time has come. records: that wait for it; for the log. True: it is open.
  bool reopen(std::size_t records);
  // Closes it where so many messages are passed over that it is to be salvaged at once.
  void salvage_if_damaged();

  bool is_open() const { return phase_ == Phase::open; }
  // For the witness: of before the start, or of a commit that was in doubt.
  std::vector<Fact> take_facts() { return std::exchange(facts_, {}); }
  bool were_facts_wanted() const { return were_facts_wanted_; }  // when the daemon ran last
  bool is_lost() const { return is_lost_; }                      // any thread
  OpenStore& store() { return store_; }
  Upkeep& upkeep() { return upkeep_; }
  const Upkeep& upkeep() const { return upkeep_; }

  // Where the clock stands and how far ids went, for a start after the clock was set back: in a
  // transaction, if the marks there are old.
  Result<void> store_marks(std::int64_t ids_ahead);
  TimePoint marked() const { return marked_; }
  void set_marked(TimePoint when) { marked_ = when; }  // after a rollback; 0: to be stored again

 private:
  enum class Phase : std::uint8_t { closed, open, failed };

  Result<void> open_once(const char* vfs);
  Result<void> open_again();
  Result<void> begin();
  Result<void> resume();
  void look_for_remains();
  Result<std::size_t> recover();
  Result<std::size_t> recover_around_damage();
  Result<std::size_t> recover_when_full(const Error& error);
  void rolled_back();
  Result<std::size_t> store_recovery();
  void look_at_log(const Result<LogCheck>& check);
  Result<void> sweep_bodies();
  Result<void> forget_doubtful();
  void note_lost();
  Result<void> mark_clean();

  Spool& spool_;
  const Clock& clock_;
  Log& log_;
  mail::MessageIds& ids_;
  Ledger& ledger_;
  Upkeep upkeep_;
  OpenStore store_;
  Repairs repairs_;
  Readers readers_;
  Phase phase_ = Phase::closed;
  bool was_clean_ = false;
  bool log_hides_mail_ = false;
  Spool::Remains remains_;  // of a database that is gone
  bool is_bereft_ = false;  // there was content of mail, or a queue, and no database
  bool owes_recovery_ = false;
  std::size_t recovered_ = 0;  // messages; before it is committed
  std::vector<mail::MessageId> doubtful_;
  std::vector<Fact> facts_;
  bool were_facts_wanted_ = false;
  bool is_wanted_stored_ = false;  // or was
  int failures_ = 0;               // of transactions, since one was stored
  SteadyTime failed_since_;
  SteadyTime try_again_;
  Duration backoff_{0};
  TimePoint marked_;
  std::atomic<bool> is_lost_{false};
};

}  // namespace postrider::queue
