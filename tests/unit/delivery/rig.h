// A whole dispatcher with loops of its own, DNS from zone text, and a custody that watches.
#pragma once

#include "fake_mx.h"
#include "messages.h"

#include "base/memory_only.h"
#include "delivery/dispatcher.h"
#include "delivery/job/queue_port.h"
#include "delivery/local/agents/delivery_agent.h"
#include "tests/support/zone_resolver.h"

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace postrider::delivery {

// Moves only when told; thread-safe.
class HandClock : public Clock {
 public:
  TimePoint now() const override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  SteadyTime steady() const override {
    const std::lock_guard lock(mutex_);
    return steady_;
  }
  void advance(Duration by) {
    const std::lock_guard lock(mutex_);
    now_ += by;
    steady_ += by;
  }

 private:
  mutable std::mutex mutex_;
  TimePoint now_{std::chrono::hours(24 * 365 * 56)};
  SteadyTime steady_{std::chrono::hours(1000)};
};

class WatchedCustody : public QueuePort {
 public:
  explicit WatchedCustody(std::string bodies) : bodies_(std::move(bodies)) {}
  void record(std::vector<queue::Record> records) override;
  void set_site(queue::SiteState state) override;
  void assign_site(std::string domain, std::string site) override;
  mail::MessageId next_id() override;
  Result<FileDescriptor> open_body(const mail::Message& message) override;
  Result<queue::BodyFile> create_body(mail::MessageId id) override;

  // Waits, at most two minutes, until the message has been recorded; takes the record.
  queue::Record wait_for(mail::MessageId id);
  std::map<std::string, queue::SiteState> sites() const;
  std::map<std::string, std::string> assigned() const;
  std::size_t records_left() const;

 private:
  std::string bodies_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<queue::Record> records_;
  std::map<std::string, queue::SiteState> sites_;
  std::map<std::string, std::string> assigned_;
  std::int64_t last_id_ = 1000000;
};

class OneDomain : public mail::Directory {
 public:
  std::function<void()> table;  // asked about slow.test, where one may wait
  bool is_local_domain(std::string_view domain) const override {
    if (table && domain == "slow.test") {
      if (MemoryOnly::forbids_waiting())
        return true;
      table();
    }
    return domain == "here.test";
  }
  Answer lookup(std::string_view local_part, std::string_view) const override {
    return local_part == "nobody" ? Answer::unknown : Answer::known;
  }
};

// Keeps events when it is told to.
class NotingLog : public Log {
 public:
  std::atomic<bool> is_noting{false};
  bool enabled(Level) const override { return is_noting; }
  void write(LogEvent event) override {
    const std::lock_guard lock(mutex_);
    if (is_noting)
      noted_.push_back(std::move(event));
  }
  std::size_t count(std::string_view name, mail::MessageId id) const {
    const std::lock_guard lock(mutex_);
    std::size_t found = 0;
    for (const auto& event : noted_)
      found += event.name() == name && event.id() == mail::to_string(id) ? 1 : 0;
    return found;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<LogEvent> noted_;
};

class Rig {
 public:
  explicit Rig(std::string_view zone = {}, unsigned loops = 2);
  ~Rig();  // drains

  void start();  // after which settings and dns are no more to be touched
  mail::MessageId send(std::shared_ptr<const mail::Message> message,
                       queue::Lease::Reason reason = queue::Lease::Reason::fresh);
  // Of one recipient who was tried so often before.
  queue::Record::Result deliver_again(std::uint32_t attempts, queue::RetryTally tally = {});
  queue::Record deliver(std::shared_ptr<const mail::Message> message) {
    return custody->wait_for(send(std::move(message)));
  }
  Status status();
  Explanation explain(const std::string& address);
  // Waits, at most two minutes, for what no record tells.
  void wait_until(const std::function<bool()>& came);
  // Sets the clock forward step by step until it came, each time when all has been done that could
  // be done before: the hosts have answered what they have, and the loops know it.
  void pass_time_until(Duration step, const std::vector<const FakeMx*>& hosts,
                       const std::function<bool()>& came);
  void drain(Duration grace = std::chrono::minutes(1));
  Route& route_to(std::uint16_t port, const std::string& domain = "*");

  HandClock clock;
  NotingLog log;
  OneDomain directory;
  tests::ZoneResolver dns;
  DeliverySettings settings;
  std::filesystem::path folder;
  std::shared_ptr<DeliveryAgent> performer;  // null: this process
  WatchedCustody* custody = nullptr;
  std::unique_ptr<Dispatcher> dispatcher;

 private:
  void let_loops_work();

  std::vector<std::unique_ptr<Loop>> loops_;
  std::vector<std::thread> threads_;
  bool drained_ = false;
};

// "0:delivered 2.0.0, 1:bounce 5.1.1, 2:untried"
std::string describe(const queue::Record& record);

}  // namespace postrider::delivery
