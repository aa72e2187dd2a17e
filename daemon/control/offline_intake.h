// The way of tools into a queue that they have opened themselves while the daemon is down.
#pragma once

#include "base/net/loop.h"
#include "queue/queue.h"

#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace postrider::daemon {

// The content of a message on its way: in memory, or in a body file where it is large.
class IntakeContent {
 public:
  IntakeContent(queue::Queue& queue, mail::MessageId id) : queue_(queue), id_(id) {}
  Result<void> append(std::string_view bytes);
  std::uint64_t size() const { return size_; }
  Result<void> finish();
  // After finish(): puts it into both.
  void move_to(mail::Content& content, queue::Submission& submission);

 private:
  Result<void> move_to_file();

  queue::Queue& queue_;
  mail::MessageId id_;
  std::string bytes_;
  queue::BodyFile body_;
  std::uint64_t size_ = 0;
};

// Blocks the caller until what it gives is on stable storage. Requires: queue was started without a
// consumer, and outlives this.
class OfflineIntake {
 public:
  // log: told what was taken, and by which user.
  OfflineIntake(queue::Queue& queue, Log& log, unsigned uid);
  ~OfflineIntake();
  OfflineIntake(const OfflineIntake&) = delete;
  OfflineIntake& operator=(const OfflineIntake&) = delete;

  // As Queue::accept_dropped(): another id than the message's own where its drop_id is known.
  Result<mail::MessageId> accept(queue::Submission submission);

 private:
  queue::Queue& queue_;
  Log& log_;
  const unsigned uid_;
  Loop loop_{0};
  std::thread thread_;
};

}  // namespace postrider::daemon
