// What other threads hand to the queue thread.
#pragma once

#include "base/net/signal.h"
#include "queue/queue.h"

#include <condition_variable>
#include <mutex>

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
    std::string next_hop;  // of reroute
  };
  struct PauseOrder {
    Pause pause;
    bool is_resume = false;
    Queue::OnPaused on_done;
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
  std::vector<PauseOrder> pauses;
  std::vector<QueueSettings> settings;

  bool is_empty() const;
  bool is_urgent() const;  // somebody waits for the answer
  bool is_many() const;    // enough to be worth a commit of their own
  void clear();
};

// Nobody waits for what delivery reports. It rides with the next message, or goes a few
// milliseconds later: so a lone client's messages cost one sync each, not two.
enum class Urgency : std::uint8_t { now, soon };

class SharedInbox {
 public:
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
  void look_again();  // at the clock, and at what is due
  void stop();        // for good

  // How a wait ended.
  struct Taken {
    bool is_idle = false;  // nothing came for as long as was allowed
    bool look_again = false;
    bool is_stopping = false;
  };
  // What the thread would do without being given anything.
  enum class Busy : std::uint8_t { no, with_due_work, with_more };
  // Waits, at most for `most`, until there is something, and a little more where nobody waits for
  // the answer. work, which is empty, takes what came.
  Taken take(Inbox& work, Duration most, Busy busy);

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  Inbox inbox_;
  // light: only for more to come along with what is there.
  enum class Sleep : std::uint8_t { awake, light, deep } sleep_ = Sleep::awake;
  bool stopping_ = false;
  bool look_ = false;
};

}  // namespace postrider::queue
