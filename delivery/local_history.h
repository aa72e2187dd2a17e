// What was done for a message and for those that its expansions made, so that several ways to one
// mailbox, list or .forward end in one copy. In memory, as long as there is room: after a stop a
// second way that was not ended yet is taken again.
// Thread-safe.
#pragma once

#include "base/time.h"

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace postrider::delivery {

class LocalHistory {
 public:
  // The message that this one was expanded from, or itself.
  std::int64_t root_of(std::int64_t message) const;
  void note_child(std::int64_t child, std::int64_t root, SteadyTime now);
  // A deed: "maildir /var/mail/ann". Only what is safe for good is noted.
  bool was_done(std::int64_t root, const std::string& deed) const;
  void note_done(std::int64_t root, const std::string& deed, SteadyTime now);

 private:
  struct Family {
    std::unordered_set<std::string> deeds;
    SteadyTime until;
  };
  void forget(SteadyTime now);

  mutable std::mutex mutex_;
  std::unordered_map<std::int64_t, Family> families_;  // by root
  std::unordered_map<std::int64_t, std::int64_t> roots_;
  std::size_t kept_ = 0;
};

}  // namespace postrider::delivery
