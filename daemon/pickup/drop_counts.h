// What already counts for its party (settings.party, or the user) of the files in the drop folder
// that wait, so that nothing counts at each look anew. By the file and not by its name, which its
// owner changes as he likes; whoever accepts the file for the queue forgets it here, so that no
// count is good for two.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>

namespace postrider::daemon {

class DropCounts {
 public:
  static constexpr std::size_t kMostOfParty = 1000;
  static constexpr std::size_t kMost = 100'000;

  // Whether so many recipients are among those that count already.
  bool covers(std::uint64_t party, std::uint64_t inode, std::size_t recipients) const {
    const auto files = parties_.find(party);
    if (files == parties_.end())
      return false;
    const auto found = files->second.find(inode);
    return found != files->second.end() && found->second >= recipients;
  }
  // False: others of this party's wait already; this one, with them, uncounted.
  bool has_room(std::uint64_t party, std::uint64_t inode) const {
    const auto files = parties_.find(party);
    return files == parties_.end() || files->second.size() < kMostOfParty ||
           files->second.contains(inode);
  }
  void add(std::uint64_t party, std::uint64_t inode, std::size_t recipients) {
    if (size_ >= kMost)
      forget_longest();
    auto& files = parties_[party];
    size_ += files.insert_or_assign(inode, recipients).second ? 1 : 0;
  }
  void forget(std::uint64_t party, std::uint64_t inode) {
    const auto files = parties_.find(party);
    if (files == parties_.end())
      return;
    size_ -= files->second.erase(inode);
    if (files->second.empty())
      parties_.erase(files);
  }
  // All others are gone.
  void keep(const std::set<std::uint64_t>& inodes) {
    size_ = 0;
    for (auto files = parties_.begin(); files != parties_.end();) {
      std::erase_if(files->second, [&](const auto& one) { return !inodes.contains(one.first); });
      size_ += files->second.size();
      files = files->second.empty() ? parties_.erase(files) : std::next(files);
    }
  }
  std::size_t size() const { return size_; }

 private:
  // Who has the most of them pays twice, and nobody else.
  void forget_longest() {
    const auto longest = std::max_element(
        parties_.begin(), parties_.end(),
        [](const auto& one, const auto& other) { return one.second.size() < other.second.size(); });
    size_ -= longest->second.size();
    parties_.erase(longest);
  }

  std::map<std::uint64_t, std::map<std::uint64_t, std::size_t>>
      parties_;  // party, inode: recipients
  std::size_t size_ = 0;
};

}  // namespace postrider::daemon
