// A queue in a folder of its own and a running loop, for tests of the doors.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/loop.h"
#include "queue/queue.h"
#include "tests/support/results.h"

#include <catch2/catch.hpp>

#include <condition_variable>
#include <filesystem>
#include <future>
#include <mutex>
#include <stdlib.h>
#include <thread>

namespace postrider::daemon {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = std::filesystem::temp_directory_path() / "postrider.XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class RecordingLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override {
    const std::lock_guard lock(mutex_);
    std::string line;
    format_text(event, line);
    text_.append(line).append("\n");
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

// The system's clock, which can hold up all threads but one that ask for the time.
class GatedClock : public Clock {
 public:
  TimePoint now() const override {
    pass();
    return system_.now();
  }
  SteadyTime steady() const override {
    pass();
    return system_.steady();
  }
  void hold_all_but(std::thread::id free) {
    const std::lock_guard lock(mutex_);
    free_ = free;
    is_held_ = true;
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    is_held_ = false;
    changed_.notify_all();
  }

 private:
  void pass() const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !is_held_ || std::this_thread::get_id() == free_; });
  }

  SystemClock system_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::thread::id free_;
  bool is_held_ = false;
};

// Members are in the order in which they must go.
struct Doors {
  TemporaryFolder folder;
  std::string spool = folder.path() + "/spool";
  GatedClock clock;
  RecordingLog log;
  std::unique_ptr<queue::Queue> queue;
  Loop loop{0};
  std::unique_ptr<BlockingPool> pool = std::make_unique<BlockingPool>(2);
  std::thread thread;

  Doors() {
    queue::QueueSettings settings;
    settings.spool = spool;
    settings.room_needed = 0;
    auto opened = queue::Queue::open(settings, clock, log);
    REQUIRE(opened);
    queue = std::move(*opened);
    queue->start(nullptr);
  }
  void run() {
    thread = std::thread([this] { loop.run(); });
  }
  // Runs `work` on the loop's thread and waits for it.
  void on_loop(const std::function<void()>& work) {
    std::promise<void> done;
    loop.post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  ~Doors() {
    loop.finish();
    if (thread.joinable())
      thread.join();
    pool.reset();
    queue->stop();
  }

  std::vector<queue::ListedMessage> listed() {
    auto page = queue->list({}, {}, 1000);
    REQUIRE(page);
    return std::move(*page);
  }
  // Waits until so many messages are in the queue.
  bool wait_for(std::size_t messages) {
    for (int i = 0; i < 12000; ++i) {
      if (listed().size() == messages)
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  // Puts one in by itself.
  mail::MessageId add(const std::string& sender, const std::vector<std::string>& recipients,
                      const std::string& content) {
    auto message = std::make_shared<mail::Message>();
    message->id = queue->next_id();
    message->received = clock.now();
    message->envelope.sender = sender;
    for (const auto& address : recipients)
      message->envelope.recipients.push_back({address, {}, {}});
    message->content.bytes = std::make_shared<const std::string>(content);
    message->content.size = content.size();
    message->content.trace = "Received: by test\r\n";
    message->origin = {"local uid 0", "local"};
    std::promise<bool> stored;
    loop.post([&] { loop.spawn(store(message, stored), log, "test"); });
    REQUIRE(stored.get_future().get());
    return message->id;
  }

 private:
  Task<void> store(std::shared_ptr<const mail::Message> message, std::promise<bool>& stored) {
    queue::Submission submission;
    submission.message = std::move(message);
    const auto accepted = co_await queue->accept(loop, std::move(submission));
    stored.set_value(accepted.has_value());
  }
};

}  // namespace postrider::daemon
