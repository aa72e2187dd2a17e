#include "base/in_time.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <sys/stat.h>
#include <thread>

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

TEST_CASE("what can be read or refused has answered", "[base][file]") {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "text\n";
  const auto pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0644) == 0);
  for (const auto& path : {folder / "file", folder.path(), pipe, folder / "missing"})
    CHECK(answers_in_time(path, kLong));
}
