// What lies in the drop folder, for listings: mail that was submitted and is not in the queue yet,
// and what was refused. Opened as the daemon opens it, without trusting anything about it.
// Blocking.
#pragma once

#include "base/file.h"
#include "queue/queue.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace postrider::daemon {

struct DropPlace {
  std::string spool;  // empty: nothing is looked at
  std::string origin;
  std::uint64_t message_size = UINT64_C(1) << 40U;
  // Why the running daemon has not taken a file of that user yet; empty: it has not come to it.
  // Thread-safe. Null: the daemon is down.
  std::function<std::string(std::uint64_t uid)> why;
};

struct DroppedMessage {
  std::string id;      // the one that the daemon gave it, or the beginning of its name
  std::string file;    // its name
  std::string status;  // dropped, refused
  std::string reason;
  TimePoint received;
  std::uint64_t size = 0;
  std::uint64_t uid = 0;
  std::string sender;
  std::vector<std::string> recipients;  // none: its header cannot be read
};

struct DropTotals {
  std::uint64_t waiting = 0, refused = 0;
  TimePoint oldest;  // of those that wait
};

class DropListing {
 public:
  // Names as they are now, oldest first, those aside that are known to be in the queue; at most
  // 100,000. A folder that is not there, or not to be read, is empty.
  DropListing(const DropPlace& place, queue::Queue& queue);
  DropTotals totals() const;
  // Goes through so many files. False: that was all of them.
  bool read_some(std::size_t most, const queue::Filter& filter, TimePoint now,
                 std::vector<DroppedMessage>& found);
  // Why what waits does, as far as that is not about one user.
  std::string why_all_wait() const;

 private:
  struct Name {
    std::int64_t modified = 0;  // nanoseconds
    std::string name;
    std::uint64_t uid = 0;
    std::uint64_t size = 0;
  };
  void look();
  bool is_in_queue(const std::string& name, std::uint64_t uid) const;
  std::optional<DroppedMessage> read(const Name& name) const;

  const DropPlace& place_;
  queue::Queue& queue_;
  FileDescriptor folder_;
  std::set<std::string> known_;
  std::vector<Name> names_;
  std::size_t next_ = 0;
};

// Nothing there ever has a site or an id of the queue, and no verb changes it.
bool is_of_drop_folder(const queue::Filter& filter);
bool may_match_dropped(const queue::Filter& filter);

}  // namespace postrider::daemon
