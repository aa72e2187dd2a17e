// Which local delivery runs when. Each recipient is a delivery of its own, on a pool of threads
// that block; what came of it is reported at once, whatever else of its message is under way.
//
// One stuck mailbox, command or user never holds up another's mail: at most two deliveries run for
// one address and for one place, a user has at most a quarter of the slots, and commands leave some
// to mailboxes. Where an address leads is known only once it was followed: then a delivery may find
// its place taken, and waits again, for that place. What waits for a place where nothing ends is
// deferred, so that it is not kept from the queue; a delivery that goes on beyond its time is
// deferred too and gives its slot back, though not its place.
//
// Several ways of one message to one mailbox end in one copy (LocalHistory).
//
// Lives on the dispatcher's first loop.
#pragma once

#include "base/net/blocking_pool.h"
#include "base/net/deadline.h"
#include "base/time.h"
#include "delivery/job/job.h"
#include "delivery/local/local_delivery.h"
#include "delivery/local_history.h"
#include "delivery/local_shares.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

class LocalRunner : public std::enable_shared_from_this<LocalRunner> {
 public:
  // The dispatcher's part; called on the loop. Jobs that are given have one recipient, but for
  // LMTP.
  struct Host {
    std::function<LocalDelivery(const Job&)> prepare;
    std::function<void(const Job&, LocalResult)> ended;
    std::function<void(const std::string& server, Job)> to_lmtp;
    std::function<void(const Job&)> put_back;  // untried
  };
  struct Limits {
    unsigned slots = 4;
    Duration stall = std::chrono::seconds(30);   // nothing ended: what waits is deferred
    Duration beyond = std::chrono::seconds(10);  // of a delivery, beyond its own time
  };
  LocalRunner(Loop& home, const Clock& clock, Limits limits, Host host);
  ~LocalRunner();  // waits for what runs

  void add(Job job);
  // Those that have not begun, of leases that are wanted: they are the caller's then.
  std::deque<Job> take_waiting(const std::function<bool(std::uint64_t lease)>& is_wanted);
  void each_waiting(const std::function<void(const Job&)>& visit) const;
  // From now on nothing begins; what had not begun is put back.
  void drain();

 private:
  struct Work;
  struct Lane {  // what waits for a share of its name
    std::deque<std::shared_ptr<Work>> works;
    bool is_blocked = false;  // until a delivery that holds the share ends
    SteadyTime since;
  };
  struct Group {  // of one message, for one LMTP server
    Job job;
    std::unique_ptr<Deadline> deadline;
  };
  using GroupKey = std::pair<std::uint64_t, std::string>;

  void put(std::shared_ptr<Work> work, const std::string& lane);
  std::shared_ptr<Work> take_front(const std::string& lane);
  void start();
  void block(Lane& lane);
  void begin(const std::shared_ptr<Work>& work);
  void finished(const std::shared_ptr<Work>& work, LocalResult result);
  void remember(const Work& work, const LocalResult& result);
  void on_time(const std::shared_ptr<Work>& work);
  void end(const Job& job, LocalResult result);
  void put_back(const Job& job);
  bool close(const Job& job);
  void release(Work& work);
  void defer_stalled();
  void collect(const Job& job, const std::string& server);
  void hand_over(const GroupKey& key);
  void hand_over_all_of(std::uint64_t lease);
  bool has_room() const { return running_ < limits_.slots && running_ + lapsed_ < threads_; }

  Loop& home_;
  const Clock& clock_;
  const Limits limits_;
  const unsigned threads_;
  Host host_;
  const std::shared_ptr<LocalShares> shares_ = std::make_shared<LocalShares>();
  const std::shared_ptr<LocalHistory> history_ = std::make_shared<LocalHistory>();
  std::unordered_map<std::string, Lane> lanes_;  // by share; none is empty
  std::deque<std::string> rotation_;             // lanes that are not blocked
  std::vector<std::shared_ptr<Work>> begun_;
  std::map<GroupKey, Group> groups_;
  std::unordered_map<std::uint64_t, std::size_t> open_;  // recipients of a lease
  std::unique_ptr<Deadline> look_again_;
  std::size_t running_ = 0, lapsed_ = 0;
  bool is_draining_ = false;
  std::unique_ptr<BlockingPool> pool_;
};

}  // namespace postrider::delivery
