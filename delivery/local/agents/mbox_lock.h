// Both locks of an mbox, in Debian's order: fcntl on the file, then the dot-lock beside it. A
// dot-lock that is older than five minutes, whose owner on this machine is gone, or that names
// nobody for some seconds (a power cut leaves it so) is stale and taken over. Blocks.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"

#include <cstdint>
#include <string>
#include <sys/types.h>

namespace postrider::delivery {

// Tells a file from another of the same name; numbers of files that are gone are used again.
struct FileMark {
  ino_t inode = 0;
  std::int64_t changed = 0;  // its content, in nanoseconds
  friend bool operator==(const FileMark&, const FileMark&) = default;
};

class DotLock {
 public:
  // Beside the file `name` in `folder`, whose lock file is name + ".lock". Waits at most
  // `patience`; then the error is "timed out". Where we may not create files there, no lock is
  // made: fcntl must do, as other programs hold it.
  static Result<DotLock> acquire(const FileDescriptor& folder, const std::string& name,
                                 const std::string& hostname, Duration patience);
  DotLock(DotLock&& other) noexcept;
  DotLock& operator=(DotLock&&) = delete;
  ~DotLock();

 private:
  DotLock(int folder, std::string name, FileMark mark)
      : folder_(folder), name_(std::move(name)), mark_(mark) {}
  int folder_;        // not ours; outlives the lock
  std::string name_;  // empty: there is none
  FileMark mark_;
};

// Waits at most `patience` for the write lock; it ends with the descriptor. An open file
// description's own lock, so that it also holds between threads of one process.
Result<void> lock_file(const FileDescriptor& file, Duration patience);

// "1234 mx.example.org\n": whose lock it is. Pure, for tests.
struct LockOwner {
  std::int64_t pid = 0;  // 0: not told
  std::string hostname;
};
LockOwner parse_lock_owner(std::string_view text);

}  // namespace postrider::delivery
