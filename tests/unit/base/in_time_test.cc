#include "base/in_time.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <condition_variable>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

using namespace postrider;

namespace {

// Something that hangs until it is told to go on.
class Hung {
 public:
  void hang() {
    std::unique_lock lock(mutex_);
    ++hanging_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return is_over_; });
    --hanging_;
    changed_.notify_all();
  }
  void wait_for(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return hanging_ == count; });
  }
  void end() {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int hanging_ = 0;
  bool is_over_ = false;
};

constexpr Duration kLong{120'000};
constexpr Duration kShort{20};

bool runs(const std::string& key) {
  return done_in_time(
      key, [] {}, kLong);
}

}  // namespace

TEST_CASE("what hangs keeps one thread of a few, and nobody who asks", "[base][file]") {
  const auto hung = std::make_shared<Hung>();
  const auto hang = [hung] { hung->hang(); };
  CHECK(runs("one"));
  CHECK(done_in_time(
      "thrown", [] { throw std::runtime_error("no"); }, kLong));
  CHECK_FALSE(done_in_time("0", hang, kShort));
  hung->wait_for(1);
  CHECK_FALSE(done_in_time("0", hang, kLong));  // at once: it still runs
  CHECK(runs("one"));
  for (int i = 1; i < 16; ++i)
    CHECK_FALSE(done_in_time(std::to_string(i), hang, kShort));
  hung->wait_for(16);
  CHECK_FALSE(done_in_time(
      "one too many", [] {}, kLong));  // at once: no thread is left
  hung->end();
  hung->wait_for(0);
  while (!runs("one too many"))  // the last threads are on their way back
    std::this_thread::yield();
  CHECK(runs("0"));
}

TEST_CASE("what is answered in turn waits for another of its key, unless that hangs",
          "[base][file]") {
  const auto slow = std::make_shared<Hung>();
  const auto hang = [slow] { slow->hang(); };
  std::thread first([&] { CHECK(done_in_turn("turn", hang, kLong)); });
  slow->wait_for(1);
  CHECK_FALSE(runs("turn"));  // which takes no turns
  bool has_run = false;
  std::thread second([&] {
    CHECK(done_in_turn(
        "turn", [&has_run] { has_run = true; }, kLong));
  });
  slow->end();
  first.join();
  second.join();
  CHECK(has_run);
  const auto hung = std::make_shared<Hung>();
  CHECK_FALSE(done_in_turn(
      "hung", [hung] { hung->hang(); }, kShort));
  CHECK_FALSE(done_in_turn(
      "hung", [] {}, kShort));  // at once: it has had its time
  hung->end();
  hung->wait_for(0);
}

TEST_CASE("a process of its own tells what it found, or is not waited for", "[base][file]") {
  const std::string long_text(300'000, 'x');
  CHECK(told_in_time([&] { return long_text; }, kLong) == long_text);
  CHECK(told_in_time([] { return std::string(); }, kLong) == "");
  CHECK_FALSE(told_in_time([]() -> std::string { throw std::runtime_error("no"); }, kLong));
  CHECK_FALSE(told_in_time(
      [] {
        ::pause();
        return std::string();
      },
      kShort));
  // Nobody who waits for the end of what we have open waits for it too.
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  CHECK(told_in_time(
            [&] {
              return ::fcntl(ends[1], F_GETFD) < 0 && ::fcntl(1, F_GETFD) < 0
                         ? std::string("closed")
                         : std::string("open");
            },
            kLong) == "closed");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("what can be read or refused has answered", "[base][file]") {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "text\n";
  const auto pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0644) == 0);
  for (const auto& path : {folder / "file", folder.path(), pipe, folder / "missing"})
    CHECK(answers_in_time(path, kLong));
}
