// The queue thread. Takes everything that waits, runs it as one transaction, commits with full
// sync, then answers each waiter on its own loop. No timer delays a commit: the next batch is
// whatever arrived during this one.
//
// States: open -> failed (a commit or sync failed) -> closed, reopened and checked -> open. What
// delivery recorded meanwhile is kept and stored then; the failed sync is never tried again on the
// same handle, for what the kernel still has of it is unknown.
#pragma once

#include "base/net/blocking_pool.h"
#include "base/net/signal.h"
#include "queue/ledger/ledger.h"
#include "queue/store/index_repair.h"
#include "queue/store/sqlite_store.h"
#include "queue/writer/change_told.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace postrider::queue {

// One accept() that waits; lives in its coroutine.
struct Waiting {
  explicit Waiting(Loop& loop_) : loop(&loop_) {}
  Loop* loop;
  Signal done;
  Result<void> result;
  mail::MessageId id;  // under which the message is in the queue
};

struct Inbox {
  struct Submitted {
    Submission submission;
    std::string head;
    Waiting* waiting;
    Result<void> refused;
  };
  struct Change {
    Verb verb;
    Filter filter;
    bool dry_run;
    std::function<void(Result<Changed>)> on_done;
    Actor actor;
  };
  struct Assignment {
    std::string domain, site;
  };
  struct Quarantine {
    mail::MessageId id;
    std::string why;
  };
  std::vector<Submitted> submissions;
  std::vector<Record> records;
  std::vector<SiteState> sites;
  std::vector<Assignment> assignments;
  std::vector<Quarantine> quarantines;
  std::vector<std::string> forgotten;  // drop ids
  std::vector<Change> changes;
  std::vector<QueueSettings> settings;

  bool is_empty() const;
  bool is_urgent() const;  // somebody waits for the answer
  bool is_many() const;    // enough to be worth a commit of their own
  void clear();
};

// Nobody waits for what delivery reports. It rides with the next message, or goes a few
// milliseconds later: so a lone client's messages cost one sync each, not two.
enum class Urgency : std::uint8_t { now, soon };

class Writer {
 public:
  Writer(Spool& spool, mail::MessageIds& ids, QueueSettings settings, const Clock& clock, Log& log);
  ~Writer();

  // What else has the database open: closed before it is opened again, so that nothing of what
  // SQLite knew of the files is left. On the queue thread.
  struct Readers {
    std::function<void()> close;
    std::function<Result<void>()> open;
  };
  void use(Readers readers) { readers_ = std::move(readers); }
  // At start: opens, recovers. `vfs` as in Database::open.
  Result<void> open(const char* vfs);
  void start(Consumer* consumer);
  void stop();

  // Any thread. add(inbox) puts something in, under the lock, and says whether somebody waits.
  template <class Add>
  void give(Add add) {
    bool must_wake = false;
    {
      const std::lock_guard lock(mutex_);
      const Urgency urgency = add(inbox_);
      must_wake = sleep_ == Sleep::deep ||
                  (sleep_ == Sleep::light && (urgency == Urgency::now || inbox_.is_many()));
      if (must_wake)
        sleep_ = Sleep::awake;
    }
    if (must_wake)
      wake_.notify_one();
  }
  void look_again();

  Admission admission() const { return admission_.load(std::memory_order_relaxed); }
  Queue::Counters counters() const;
  const Leases& leases() const { return ledger_.leases(); }
  const QueueTime& time() const { return ledger_.time(); }
  const std::atomic<Duration::rep>& lifetime() const { return lifetime_; }
  bool was_clean() const { return was_clean_; }
  bool is_lost() const { return is_lost_; }
  std::size_t unrecorded() const;  // after stop()

 private:
  using Steady = SteadyTime;

  void run();
  bool wait();  // false: stop, and nothing is left to do
  Duration most_sleep() const;
  void process();
  void take_settings();
  bool is_anything_to_store() const;
  Result<void> transact(Effects& effects);
  Result<void> store_inbox(Effects& effects);
  Result<void> store_submission(Inbox::Submitted& each, Effects& effects);
  Result<void> sync_notices();
  void hand_out(Effects& effects);
  void check_body(Lease lease, std::uint32_t checksum);
  Result<void> store_marks(std::int64_t ids_ahead);
  void committed(Effects& effects);
  void failed(const Error& error, Effects& effects);
  void refuse_submissions(const Error& error);
  void answer();
  void answer_submissions();
  void answer_changes();
  void end_changes(const Error& error);
  Result<void> go_on_changing(Effects& effects);
  void keep_for_later();
  void check_room();
  void reopen();
  Result<void> open_again();
  Result<void> check_files() const;
  void remember_files();
  Result<void> open_once(const char* vfs);
  Result<void> begin();
  Result<void> resume();
  Result<void> look_at_figures();
  Result<std::size_t> recover();
  Result<void> transact_around_damage(Effects& effects);
  Result<void> open_store();
  void drop_store();
  Result<void> check_store();
  Result<void> repair();
  Result<bool> repair_indexes(Repair when);
  Result<bool> salvage_store();
  bool has_passed_over_too_much();
  Result<void> sweep_bodies();
  void look_at_log();
  Result<void> forget_doubtful();
  void maintain_after_commit();
  void maintain_idle();
  void give_back_room();
  void checkpoint(Checkpoint mode);
  void sort_free_pages();
  Result<void> vacuum_some();
  void close();
  Result<void> mark_clean();
  bool finish_removals();  // false: some files cannot be removed
  void set_admission(Admission admission);
  static int on_wal(void* writer, sqlite3* database, const char* name, int pages);

  Spool& spool_;
  const Clock& clock_;
  Log& log_;
  mail::MessageIds& ids_;
  const char* vfs_ = nullptr;
  Ledger ledger_;
  std::unique_ptr<SqliteStore> store_;  // null while it is closed
  Consumer* consumer_ = nullptr;
  bool was_clean_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  Inbox inbox_;
  // light: only for more to come along with what is there.
  enum class Sleep : std::uint8_t { awake, light, deep } sleep_ = Sleep::awake;
  bool stopping_ = false;
  bool look_ = false;

  struct ChangeUnderWay {
    ChangeUnderWay(Inbox::Change change, TimePoint wall, Log& log);
    ChangeRun run;
    std::shared_ptr<ChangeTold> told;
  };

  // The thread's own.
  std::chrono::microseconds commit_took_{0};  // the latest
  std::vector<ChangeUnderWay> changing_;
  Inbox work_;
  Inbox kept_;  // records and site states that wait for the store to work again
  std::vector<mail::MessageId> doubtful_;
  Readers readers_;
  bool log_hides_mail_ = false;
  Steady failed_since_;
  FileIdentity database_file_, log_file_;
  bool is_open_ = false;
  bool has_room_ = true;
  bool store_is_full_ = false;
  bool is_idle_ = false;
  Steady room_checked_;
  Steady try_again_;
  Duration backoff_{0};
  TimePoint marked_;
  int wal_pages_ = 0;
  int wal_commits_ = 0;  // since the last checkpoint
  bool checkpointed_ = true;
  Steady vacuum_again_;
  Steady repair_again_;
  bool wants_repair_ = false;   // damage was met that is no single message's
  bool wants_salvage_ = false;  // even more
  bool salvaged_in_vain_ = false;
  bool wants_vacuum_ = false;
  std::int64_t vacuum_pages_ = 1;
  bool is_vacuum_slow_ = false;
  Steady sort_again_;

  std::atomic<Duration::rep> lifetime_;
  std::atomic<bool> is_lost_{false};
  std::atomic<Admission> admission_{Admission::open};
  struct {
    std::atomic<std::uint64_t> accepted{0}, delivered{0}, bounced{0}, removed{0}, deferrals{0},
        commits{0};
  } counted_;
  BlockingPool removals_{1};  // unlinking a large file takes its time
  std::atomic<bool> ending_{false};
  std::optional<BlockingPool> checks_;  // of large bodies, before delivery gets them
  std::thread thread_;
};

}  // namespace postrider::queue
