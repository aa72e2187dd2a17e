#include "queue/ledger/lane_shares.h"

#include "queue/waiting_lane.h"

#include <algorithm>
#include <utility>

namespace postrider::queue {

namespace {

// Lanes that are looked at in one choice. Where much is out already, a choice comes often and finds
// little.
constexpr std::size_t kMostSeeks = 256, kFewSeeks = 32;
constexpr std::size_t kMostCursors = 20'000;
constexpr std::int64_t kBeforeLanes = -1;

// One of each in turn.
template <class Lanes>
std::vector<DueIndex::DueMessage> interleaved(const Lanes& lanes) {
  std::vector<DueIndex::DueMessage> all;
  bool goes_on = true;
  for (std::size_t i = 0; std::exchange(goes_on, false); ++i)
    for (const auto& lane : lanes)
      if (i < lane.taken.size()) {
        all.push_back(lane.taken[i]);
        goes_on = true;
      }
  return all;
}

}  // namespace

Result<LaneShares::Chosen> LaneShares::choose(std::int64_t domain, std::size_t most) {
  const auto per_domain = state_.settings.leased_per_domain;
  const auto out = state_.leases.of_domain(domain);
  // Looking past what is out must cost little for each message that is found.
  const bool has_many_out = out > per_domain / 4;
  Chosen chosen;
  if (!has_many_out) {
    auto due = state_.store->due().messages(domain, state_.now(), state_.leases, most, chosen.more);
    if (!due)
      return due.error();
    chosen.messages = *std::move(due);
    if (!chosen.more && out + chosen.messages.size() <= (per_domain + 1) / 2)
      return chosen;
  }
  seen_.clear();
  std::vector<Lane> lanes;
  if (!chosen.messages.empty())
    if (auto done = add_oldest(domain, lanes, chosen); !done)
      return done.error();
  if (auto done = find_lanes(domain, most, has_many_out ? kFewSeeks : kMostSeeks, lanes, chosen);
      !done)
    return done.error();
  if (auto done = share(domain, most, lanes, chosen); !done)
    return done.error();
  return chosen;
}

// A lane is filled up again when half of its part has ended.
std::size_t LaneShares::room_of(std::int64_t domain, std::int64_t lane) const {
  const auto out_of_domain = state_.leases.of_domain(domain);
  const auto per_domain = state_.settings.leased_per_domain;
  const auto free = per_domain > out_of_domain ? per_domain - out_of_domain : 0;
  const auto out = state_.leases.of_lane(domain, lane);
  const auto room = free > out ? (free - out + 1) / 2 : 0;
  return room >= out ? room : 0;
}

Result<void> LaneShares::add_oldest(std::int64_t domain, std::vector<Lane>& lanes, Chosen& chosen) {
  auto lane = state_.store->due().lane_of(chosen.messages.front());
  if (!lane)
    return lane.error();
  if (const auto room = room_of(domain, *lane); room > 0)
    lanes.push_back({*lane, room, {}});
  chosen.more = true;
  return {};
}

// From where the last search ended, once round at most.
Result<void> LaneShares::find_lanes(std::int64_t domain, std::size_t most, std::size_t seeks,
                                    std::vector<Lane>& lanes, Chosen& chosen) {
  if (cursors_.size() >= kMostCursors)
    cursors_.clear();
  auto& cursor = cursors_.try_emplace(domain, kBeforeLanes).first->second;
  const auto oldest = lanes.empty() ? kBeforeLanes : lanes.front().id;
  const auto begin = cursor;
  bool is_past_end = false;
  for (; seeks > 0 && lanes.size() < most; --seeks) {
    auto next = state_.store->due().next_lane(domain, cursor);
    if (!next)
      return next.error();
    if (!*next ? is_past_end : is_past_end && (*next)->id > begin)
      return {};
    if (!*next) {
      is_past_end = true;
      cursor = kBeforeLanes;
      continue;
    }
    cursor = (*next)->id;
    if (cursor == oldest || (*next)->time > state_.now())
      continue;
    if (const auto room = room_of(domain, cursor); room > 0)
      lanes.push_back({cursor, room, {}});
    else
      chosen.more = true;
  }
  chosen.more = true;
  return {};
}

// Each its part by weight; what some leave goes to the others.
Result<void> LaneShares::share(std::int64_t domain, std::size_t most, std::vector<Lane>& lanes,
                               Chosen& chosen) {
  auto left = most;
  for (std::size_t open = lanes.size(); open > 0 && left > 0;) {
    std::size_t weights = 0;
    for (const auto& lane : lanes)
      weights += lane.is_open ? weight_of_lane(lane.id) : 0;
    const auto whole = left;
    for (auto& lane : lanes) {
      if (!lane.is_open || left == 0)
        continue;
      const auto part = std::max<std::size_t>(whole * weight_of_lane(lane.id) / weights, 1);
      const auto wanted = std::min({part, lane.room - lane.taken.size(), left});
      const auto before = lane.taken.size();
      if (auto done = take(domain, lane, wanted); !done)
        return done.error();
      const auto taken = lane.taken.size() - before;
      left -= taken;
      lane.is_open = taken == wanted && lane.taken.size() < lane.room;
      chosen.more = chosen.more || lane.taken.size() == lane.room;
      open -= lane.is_open ? 0 : 1;
    }
  }
  chosen.more = chosen.more || left == 0;
  chosen.messages = interleaved(lanes);
  return {};
}

Result<void> LaneShares::take(std::int64_t domain, Lane& lane, std::size_t most) {
  const auto after = lane.taken.empty() ? DueIndex::before_all() : lane.taken.back();
  auto found = state_.store->due().messages_of(domain, lane.id, state_.now(), after, state_.leases,
                                               most, seen_);
  if (!found)
    return found.error();
  lane.taken.insert(lane.taken.end(), found->begin(), found->end());
  return {};
}

}  // namespace postrider::queue
