// What already counts for its party (settings.party, or the user) of the files in the drop folder
// that wait, so that nothing counts again at each look. By the file and not by its name, which its
// owner changes as he likes; whoever accepts the file for the queue forgets it here, so that no
// count is good for two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace postrider::daemon {

class DropCounts {
 public:
  static constexpr std::size_t kMostOfParty = 1000;
  static constexpr std::size_t kMostParked = 20'000;  // of a party, besides
  static constexpr std::size_t kMost = 100'000;

  struct Limits {
    std::size_t of_party = kMostOfParty;
    std::size_t parked = kMostParked;
    std::size_t all = kMost;
  };
  DropCounts() = default;
  explicit DropCounts(const Limits& limits) : limits_(limits) {}

  // Whether so many recipients are among those that count already.
  bool covers(std::uint64_t party, std::uint64_t inode, std::size_t recipients) const {
    const auto files = parties_.find(party);
    if (files == parties_.end())
      return false;
    const auto found = files->second.counted.find(inode);
    return found != files->second.counted.end() && found->second >= recipients;
  }
  // False: others of this party's wait already; this one, with them, uncounted.
  bool has_room(std::uint64_t party, std::uint64_t inode) const {
    const auto found = parties_.find(party);
    if (found == parties_.end() || found->second.counted.contains(inode))
      return true;
    const auto& files = found->second;
    return files.counted.size() - files.parked.size() < limits_.of_party &&
           files.parked.size() < limits_.parked;
  }
  // It waits for something of ours, which is no reason for the party's others to wait. Its count
  // stays.
  void park(std::uint64_t party, std::uint64_t inode) {
    const auto files = parties_.find(party);
    if (files != parties_.end() && files->second.counted.contains(inode))
      files->second.parked.insert(inode);
  }
  void add(std::uint64_t party, std::uint64_t inode, std::size_t recipients) {
    if (size_ >= limits_.all)
      forget_longest();
    auto& files = parties_[party];
    const auto before = files.counted.size();
    files.counted.insert_or_assign(inode, recipients);
    resize(party, before, files.counted.size());
  }
  void forget(std::uint64_t party, std::uint64_t inode) {
    const auto files = parties_.find(party);
    if (files == parties_.end() || files->second.counted.erase(inode) == 0)
      return;
    files->second.parked.erase(inode);
    const auto left = files->second.counted.size();
    resize(party, left + 1, left);
    if (left == 0)
      parties_.erase(files);
  }
  // All others are gone.
  void keep(const std::set<std::uint64_t>& inodes) {
    for (auto at = parties_.begin(); at != parties_.end();) {
      auto& files = at->second;
      const auto before = files.counted.size();
      std::erase_if(files.counted, [&](const auto& one) { return !inodes.contains(one.first); });
      std::erase_if(files.parked, [&](const auto inode) { return !inodes.contains(inode); });
      resize(at->first, before, files.counted.size());
      at = files.counted.empty() ? parties_.erase(at) : std::next(at);
    }
  }
  std::size_t size() const { return size_; }

 private:
  struct Files {
    std::map<std::uint64_t, std::size_t> counted;  // by inode: recipients
    std::set<std::uint64_t> parked;                // of these
  };

  void resize(std::uint64_t party, std::size_t before, std::size_t now) {
    size_ = size_ - before + now;
    by_length_.erase({before, party});
    if (now > 0)
      by_length_.emplace(now, party);
  }
  // Who has the most of them pays twice, and nobody else.
  void forget_longest() {
    const auto [length, party] = *by_length_.rbegin();
    resize(party, length, 0);
    parties_.erase(party);
  }

  const Limits limits_;
  std::map<std::uint64_t, Files> parties_;
  std::set<std::pair<std::size_t, std::uint64_t>> by_length_;  // of the parties
  std::size_t size_ = 0;
};

}  // namespace postrider::daemon
