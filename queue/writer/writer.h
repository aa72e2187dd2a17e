// The queue thread. Takes everything that waits, runs it as one transaction, commits with full
// sync, then answers each waiter on its own loop. No timer delays a commit: the next batch is
// whatever arrived during this one.
//
// States: open -> failed (a commit or sync failed) -> closed, reopened and checked -> open. What
// delivery recorded meanwhile is kept and stored then; the failed sync is never tried again on the
// same handle, for what the kernel still has of it is unknown.
#pragma once

#include "queue/queue_timings.h"
#include "queue/writer/batch.h"
#include "queue/writer/body_work.h"
#include "queue/writer/recent_counts.h"
#include "queue/writer/room_watch.h"

#include <thread>

namespace postrider::queue {

class Writer {
 public:
  Writer(Spool& spool, mail::MessageIds& ids, QueueSettings settings, const Clock& clock, Log& log);
  ~Writer();

  void use(StoreKeeper::Readers readers) { keeper_.use(std::move(readers)); }
  // At start: opens, recovers. `vfs` as in Database::open.
  Result<void> open(const char* vfs);
  void start(Consumer* consumer, Witness* witness);
  void stop();

  // Any thread: see SharedInbox::give().
  template <class Add>
  void give(Add add) {
    inbox_.give(add);
  }
  void look_again() { inbox_.look_again(); }
  // Any thread: admission() is true of the folder of large content when this returns.
  void look_at_bodies();

  Admission admission() const { return room_.admission(); }
  Admission ask_admission();  // any thread; see Queue
  Queue::Counters counters() const;
  Queue::Recent recent() const { return recent_.at(clock_.steady()); }
  QueueTimings& timings() { return timings_; }
  Facts& facts() { return ledger_.facts(); }
  const Leases& leases() const { return ledger_.leases(); }
  const QueueTime& time() const { return ledger_.time(); }
  const std::atomic<Duration::rep>& lifetime() const { return lifetime_; }
  bool is_lost() const { return keeper_.is_lost(); }
  std::size_t unrecorded() const { return batch_.unrecorded(); }  // after stop()

 private:
  void run();
  bool wait();  // false: stop, and nothing is left to do
  Duration most_sleep() const;
  void process();
  void maintain(bool is_stored);
  void take_settings();
  bool store_all();  // false: it failed, or is not open
  Result<void> sync_notices();
  void follow_bodies();
  void refuse_misplaced();
  static bool is_misplaced(const Record& record);
  void committed(Effects& effects);
  void bear_witness(std::vector<Fact> facts);
  void count(const Queue::Counters& counted);
  void note_timings(const Queue::Counters& counted);
  void failed(const Error& error, Effects& effects);
  void check_room();
  bool can_store() const { return keeper_.is_open() && body_trouble_.empty(); }

  Spool& spool_;
  const Clock& clock_;
  Log& log_;
  QueueTimings timings_;  // outlives who reports to it
  Ledger ledger_;
  StoreKeeper keeper_;
  RoomWatch room_;
  SharedInbox inbox_;
  Consumer* consumer_ = nullptr;
  Witness* witness_ = nullptr;

  // The thread's own.
  Batch batch_;
  bool is_idle_ = false;
  bool is_low_ = false;  // as the log has it
  SteadyTime low_since_;
  std::string body_trouble_;  // why large content has no folder

  std::atomic<Duration::rep> lifetime_;
  struct {
    std::atomic<std::uint64_t> accepted{0}, delivered{0}, bounced{0}, removed{0}, deferrals{0},
        untried{0}, commits{0};
  } counted_;
  RecentCounts recent_;
  BodyWork bodies_;
  std::thread thread_;
};

}  // namespace postrider::queue
