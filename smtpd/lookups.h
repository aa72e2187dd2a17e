// Questions that a network loop must not ask itself, because whoever answers may be slow or hang: a
// directory service, a disk, a database, many patterns. Asked on threads of their own, started when
// they are needed. How many run and how many wait is bounded, and so is the time that a session
// waits for its answer. What hangs keeps one thread, however often it is asked again, and no other.
#pragma once

#include "base/net/loop.h"
#include "base/net/signal.h"
#include "base/time.h"

#include <functional>
#include <memory>
#include <string>

namespace postrider::smtpd {

class Lookups {
 public:
  struct Limits {
    unsigned threads = 8;
    unsigned for_strangers = 6;      // of the threads
    std::size_t waiting = 1000;      // strangers' questions without a thread, in all
    std::size_t waiting_own = 1000;  // our own clients', which go first
  };
  explicit Lookups(const Limits& limits);
  Lookups() : Lookups(Limits()) {}
  // Does not wait for what hangs: its thread goes on alone, and drops what it learns. A job owns
  // what it uses.
  ~Lookups();
  Lookups(const Lookups&) = delete;
  Lookups& operator=(const Lookups&) = delete;

  // The way out for who waits. Made, used and unmade on one loop.
  class Wait : public std::enable_shared_from_this<Wait> {
   public:
    void give_up();  // run() is resumed a moment later, with false

   private:
    friend class Lookups;
    void end(bool is_answered);
    Loop* loop_ = nullptr;  // null: nobody waits
    bool is_answered_ = false;
    Signal ended_;
  };

  // Runs the job on a thread. True: it has ended, or thrown. False: it took longer than `limit`, or
  // too many waited, or it was given up; then it may go on, and nobody looks at what it finds.
  struct Job {
    std::string key;      // of two with the same, one runs at a time
    bool is_own = false;  // of a client of ours
    std::function<void()> ask;
  };
  Task<bool> run(Loop& loop, std::shared_ptr<Wait> wait, Duration limit, Job job);

  struct Counts {
    unsigned running = 0;
    std::size_t waiting = 0;
  };
  Counts counts() const;  // any thread

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace postrider::smtpd
