// Inside of tables/: what a table that lies outside of this process has answered. An answer is
// remembered for a moment, and for longer where nobody may wait and an old one will do
// (base/memory_only.h). That there was none can be remembered, too: a thousand messages for one
// name that takes long cost one question. Any thread may ask.
#pragma once

#include "tables/table.h"

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace postrider::tables {

class RecentAnswers {
 public:
  using Answer = Result<std::optional<Entry>>;
  using Clock = std::chrono::steady_clock;

  explicit RecentAnswers(Clock::duration kept) : kept_(kept) {}

  // Nothing: the table must be asked.
  std::optional<Answer> find(const std::string& key) const;
  // What the table has said, also that it has no such key. However long the answers are, they are
  // bounded in octets, too.
  void keep(const std::string& key, const std::optional<Entry>& entry);
  // That it could not say it; what it said before is kept for those that take an old answer.
  void keep_failure(const std::string& key, const Error& why);
  std::size_t octets() const;  // of memory, for the answers

 private:
  template <class What>
  struct Kept {
    What what;
    Clock::time_point until;
  };
  template <class What>
  using Memory = std::unordered_map<std::string, Kept<What>>;

  const Clock::duration kept_;
  mutable std::mutex mutex_;  // never held for long
  Memory<std::optional<Entry>> entries_;
  std::size_t octets_ = 0;
  Memory<Error> failures_;
};

}  // namespace postrider::tables
