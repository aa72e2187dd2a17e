#include "tests/unit/queue/hanging_read.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

std::mutex mutex;
std::condition_variable changed;
std::atomic<bool> are_any{false};
std::set<ino_t> hanging_files, failing_files;
unsigned hanging = 0;

ino_t number_of_file(const std::string& path) {
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  return about.st_ino;
}

ssize_t read_at(int descriptor, void* to, size_t size, off_t offset) {
  struct stat about {};
  if (are_any && ::fstat(descriptor, &about) == 0) {
    const std::lock_guard lock(mutex);
    if (failing_files.contains(about.st_ino)) {
      errno = EIO;
      return -1;
    }
  }
  return ::syscall(SYS_pread64, descriptor, to, size, offset);
}

}  // namespace

extern "C" ssize_t pread(int descriptor, void* to, size_t size, off_t offset) {
  return read_at(descriptor, to, size, offset);
}

extern "C" ssize_t pread64(int descriptor, void* to, size_t size, off64_t offset) {
  return read_at(descriptor, to, size, offset);
}

extern "C" ssize_t read(int descriptor, void* to, size_t size) {
  struct stat about {};
  if (are_any && ::fstat(descriptor, &about) == 0) {
    std::unique_lock lock(mutex);
    if (hanging_files.contains(about.st_ino)) {
      ++hanging;
      changed.notify_all();
      changed.wait(lock, [&] { return !hanging_files.contains(about.st_ino); });
      --hanging;
    }
  }
  return ::syscall(SYS_read, descriptor, to, size);
}

namespace postrider::queue::test {

HangingRead::~HangingRead() {
  let_go();
}

void HangingRead::hang(const std::string& path) {
  const auto number = number_of_file(path);
  const std::lock_guard lock(mutex);
  hanging_files.insert(number);
  are_any = true;
}

void HangingRead::fail(const std::string& path) {
  const auto number = number_of_file(path);
  const std::lock_guard lock(mutex);
  failing_files.insert(number);
  are_any = true;
}

void HangingRead::wait_for(unsigned wanted) {
  std::unique_lock lock(mutex);
  CHECK(changed.wait_for(lock, std::chrono::seconds(120), [&] { return hanging >= wanted; }));
}

void HangingRead::let_go() {
  const std::lock_guard lock(mutex);
  are_any = false;
  hanging_files.clear();
  failing_files.clear();
  changed.notify_all();
}

}  // namespace postrider::queue::test
