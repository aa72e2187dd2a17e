// The folder body/ of a spool, by its name: where another folder takes its place (a backup that is
// put back), that one is taken up.
//
//   found --another in its place--> settling --10 minutes--> found
//     +-------none, or not ours-------> lost: follow() fails until there is one
//
// While a folder settles, content that is not in it may still be on its way there. Thread-safe.
#pragma once

#include "base/file.h"
#include "base/time.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace postrider::queue {

// Of a file: to notice that another one, or none, has taken its place.
struct FileIdentity {
  std::uint64_t device = 0, number = 0;
  bool operator==(const FileIdentity&) const = default;
};

class BodyFolder {
 public:
  // One folder, open: whoever made a file there knows it by this, whatever the name leads to.
  struct Opened {
    FileDescriptor file;
    FileIdentity identity;
  };
  using Handle = std::shared_ptr<const Opened>;

  // owner: to whom it must belong.
  BodyFolder(std::string spool, unsigned owner);

  // At start: makes it if it is missing.
  Result<void> open();
  const std::string& path() const { return path_; }
  // The folder to which the name leads now; costs one system call while nothing has changed. After
  // an error current() stays what it was.
  Result<Handle> follow();
  Handle current() const;  // as found last
  // Whether content may still be on its way into the folder; as of the latest settle().
  bool is_settling() const { return is_settling_; }
  void settle(SteadyTime now);
  // Whether another folder has taken the place of the first.
  bool was_replaced() const { return was_replaced_; }

 private:
  Result<Handle> take_up(const FileIdentity& found);

  std::string spool_, path_;
  unsigned owner_;
  mutable std::mutex mutex_;
  Handle current_;
  std::optional<SteadyTime> settling_since_;
  std::atomic<bool> is_settling_{false}, was_replaced_{false};
};

}  // namespace postrider::queue
