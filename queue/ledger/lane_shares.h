// Which messages of a domain are handed out when more are due than there is room for: those who send
// share it. Each lane (queue/waiting_lane.h) has at most as many out as are then still free: one at
// most half, two a third each, so there is always room for one that comes new, which is found
// whatever waits before it. Each lane that is found gets its part by weight; the search goes on
// where the last one ended, and never past the message that has waited longest.
#pragma once

#include "queue/ledger/queue_state.h"

#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace postrider::queue {

class LaneShares {
 public:
  using DueMessage = DueIndex::DueMessage;
  struct Chosen {
    std::vector<DueMessage> messages;
    bool more = false;  // there are others, or there may be
  };

  explicit LaneShares(QueueState& state) : state_(state) {}

  // At most `most`. Costs as much as what is handed out, however much waits.
  Result<Chosen> choose(std::int64_t domain, std::size_t most);

 private:
  struct Lane {
    std::int64_t id = 0;
    std::size_t room = 0;
    std::vector<DueMessage> taken;
    bool is_open = true;  // it may have more
  };
  std::size_t room_of(std::int64_t domain, std::int64_t lane) const;
  Result<void> add_oldest(std::int64_t domain, std::vector<Lane>& lanes, Chosen& chosen);
  Result<void> find_lanes(std::int64_t domain, std::size_t most, std::size_t seeks,
                          std::vector<Lane>& lanes, Chosen& chosen);
  Result<void> share(std::int64_t domain, std::size_t most, std::vector<Lane>& lanes,
                     Chosen& chosen);
  Result<void> take(std::int64_t domain, Lane& lane, std::size_t most);

  QueueState& state_;
  std::unordered_set<std::int64_t> seen_;                   // messages, in this choice
  std::unordered_map<std::int64_t, std::int64_t> cursors_;  // of domains, the lane seen last
};

}  // namespace postrider::queue
