// A queue in a folder of its own, a clock that moves only when told, one network loop, and a
// consumer that keeps what it is given until the test answers.
#pragma once

#include "queue/queue.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

namespace postrider::queue::test {

class ManualClock : public Clock {
 public:
  TimePoint now() const override { return TimePoint(Duration(wall_.load())); }
  SteadyTime steady() const override {
    return SteadyTime(std::chrono::milliseconds(steady_.load()));
  }
  void pass(Duration time) {
    wall_ += time.count();
    steady_ += time.count();
  }
  void jump(Duration time) { wall_ += time.count(); }

 private:
  std::atomic<std::int64_t> wall_{1'790'000'000'000};
  std::atomic<std::int64_t> steady_{1'000'000};
};

// Removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class CollectingLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override;
  std::size_t count(std::string_view name) const;
  std::string all() const;

 private:
  mutable std::mutex mutex_;
  std::vector<LogEvent> events_;
};

class Hand : public Consumer {
 public:
  void take(std::vector<Lease> leases) override;
  // Nothing is under way but the recipients with these indexes.
  void revoke(std::vector<Revocation> wanted, UnderWay answer) override;
  std::vector<std::uint32_t> under_way;  // set by the test before it asks
  void ask(std::vector<Revocation> wanted, UnderWay answer) override;
  std::vector<Revocation> revoked() const;
  void expire(std::vector<Overdue> late) override;
  std::vector<Overdue> overdue();  // what it was asked to end since the last call
  // Waits until a lease is there; fails the test after ten seconds.
  Lease next();
  // The lease of that message.
  Lease next(mail::MessageId id);
  std::size_t count() const;
  bool wait_for(std::size_t leases);
  void clear();

 private:
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Lease> leases_;
  std::vector<Revocation> revoked_;
  std::vector<Overdue> overdue_;
};

class LoopThread {
 public:
  LoopThread() : loop(0), thread_([this] { loop.run(); }) {}
  ~LoopThread() {
    loop.finish();
    thread_.join();
  }
  Loop loop;

 private:
  std::thread thread_;
};

struct QueueFixture {
  QueueFixture();
  ~QueueFixture();

  void open();
  void start() { queue->start(&hand); }
  void reopen();  // an orderly stop and start
  // As after a kill: what is in the files now, and nothing that a stop would write.
  void die();

  mail::Message make(const std::string& sender, const std::vector<std::string>& recipients,
                     const std::string& content = "Subject: x\r\n\r\nbody\r\n");
  // Its content is in a file, of so many octets.
  Submission large(std::size_t size, const std::string& sender = "a@b.test");
  Result<void> accept(Submission submission);
  Result<void> accept(mail::Message message);
  Result<mail::MessageId> accept_dropped(Submission submission);
  mail::MessageId must_accept(const std::string& sender,
                              const std::vector<std::string>& recipients);
  std::vector<ListedMessage> list(const Filter& filter = {});
  Changed change(Verb verb, const Filter& filter, bool dry_run = false);
  void record(Record record);  // and settles
  // Returns when all that was given to the queue before has been committed.
  void settle();

  TemporaryFolder folder;
  ManualClock clock;
  CollectingLog log;
  QueueSettings settings;
  bool logs_in = false;  // who sends, as the user of the sender address
  Hand hand;
  LoopThread loop;
  std::unique_ptr<Queue> queue;
};

mail::Outcome outcome(mail::Verdict verdict, const std::string& text = "said so");
Record answer(const Lease& lease, mail::Verdict verdict, TimePoint next = {});
Record untried(const Lease& lease);

}  // namespace postrider::queue::test
