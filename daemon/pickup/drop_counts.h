// What already counts for its party (settings.party, or the user) of the files in the drop folder
// that wait, so that nothing counts at each look anew. By the file and not by its name, which its
// owner changes as he likes; whoever accepts the file for the queue forgets it here, so that no
// count is good for two.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>

namespace postrider::daemon {

class DropCounts {
 public:
  static constexpr std::size_t kMostOfParty = 1000;
  static constexpr std::size_t kMostParked = 20'000;  // of a party, besides
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
    if (files == parties_.end() || files->second.contains(inode))
      return true;
    const auto parked = parked_of(party);
    return files->second.size() - parked < kMostOfParty && parked < kMostParked;
  }
  // It waits for something of ours, which is no reason for the party's others to wait. Its count
  // stays.
  void park(std::uint64_t party, std::uint64_t inode) {
    const auto files = parties_.find(party);
    if (files != parties_.end() && files->second.contains(inode))
      parked_[party].insert(inode);
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
    unpark(party, [inode](std::uint64_t one) { return one == inode; });
  }
  // All others are gone.
  void keep(const std::set<std::uint64_t>& inodes) {
    size_ = 0;
    for (auto files = parties_.begin(); files != parties_.end();) {
      std::erase_if(files->second, [&](const auto& one) { return !inodes.contains(one.first); });
      unpark(files->first, [&](std::uint64_t one) { return !inodes.contains(one); });
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
    parked_.erase(longest->first);
    parties_.erase(longest);
  }
  std::size_t parked_of(std::uint64_t party) const {
    const auto parked = parked_.find(party);
    return parked == parked_.end() ? 0 : parked->second.size();
  }
  void unpark(std::uint64_t party, const std::function<bool(std::uint64_t)>& is_gone) {
    const auto parked = parked_.find(party);
    if (parked == parked_.end())
      return;
    std::erase_if(parked->second, is_gone);
    if (parked->second.empty())
      parked_.erase(parked);
  }

  std::map<std::uint64_t, std::map<std::uint64_t, std::size_t>>
      parties_;                                              // party, inode: recipients
  std::map<std::uint64_t, std::set<std::uint64_t>> parked_;  // of these, by party
  std::size_t size_ = 0;
};

}  // namespace postrider::daemon
