// How many deliveries run at one time for one address, place, user or kind. Thread-safe.
#pragma once

#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

// "place:mbox /var/mail/ann", and how many may run at one time.
struct Share {
  std::string name;
  unsigned most = 1;
};

class LocalShares {
 public:
  // nullptr: all of them are held now. Otherwise none, and this one is exhausted. A share that is
  // in `held` already counts once.
  const Share* enter(const std::vector<Share>& shares, std::vector<std::string>& held);
  void leave(std::vector<std::string>& held);

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, unsigned> running_;
};

}  // namespace postrider::delivery
