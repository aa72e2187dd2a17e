#include "delivery/waiting_sites.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostFed = 64;  // of a line, at one time

}  // namespace

void WaitingSites::add(const Site& site, bool is_prompt) {
  auto& line = !site.links.empty() || site.is_crowded ? growing_
               : is_prompt                            ? prompt_
               : site.is_patient || site.is_proven    ? patient_
                                                      : newcomers_;
  line.push_back(site.handle);
}

void WaitingSites::feed(SiteBook& sites, const std::function<bool(const Site&)>& has_room,
                        const std::function<void(Site&)>& on_turn) {
  for (auto* line : {&prompt_, &newcomers_, &patient_, &growing_})
    feed_line(*line, sites, has_room, on_turn);
}

// Newcomers alternately from both ends: a flood of them makes nobody wait for all that came before.
void WaitingSites::feed_line(Line& line, SiteBook& sites,
                             const std::function<bool(const Site&)>& has_room,
                             const std::function<void(Site&)>& on_turn) {
  const bool from_both_ends = &line == &newcomers_;
  for (auto left = std::min(line.size(), kMostFed); left > 0 && !line.empty(); --left) {
    const bool newest = from_both_ends && newest_next_;
    const auto handle = newest ? line.back() : line.front();
    newest ? line.pop_back() : line.pop_front();
    auto* found = sites.of_handle(handle);
    if (found == nullptr)
      continue;
    auto& site = *found;
    if (!site.ready.empty() && !has_room(site)) {
      if (&line == &growing_) {
        line.push_back(handle);
        continue;
      }
      newest ? line.push_back(handle) : line.push_front(handle);
      return;
    }
    newest_next_ = newest_next_ != from_both_ends;  // only after one had its turn
    site.is_starved = site.is_crowded = false;
    on_turn(site);
  }
}

}  // namespace postrider::delivery
