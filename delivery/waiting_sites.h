// Sites that wait for a connection, in the order in which they get one.
#pragma once

#include "delivery/site_book.h"

#include <cstdint>
#include <deque>
#include <functional>

namespace postrider::delivery {

// On the dispatcher's loop.
class WaitingSites {
 public:
  void add(const Site& site, bool is_prompt);
  // Those for which there is room now, until it is gone, with on_turn for each; a site that is gone
  // loses its place, one that has nothing to send any more has its turn.
  void feed(SiteBook& sites, const std::function<bool(const Site&)>& has_room,
            const std::function<void(Site&)>& on_turn);

  bool is_empty() const {
    return prompt_.empty() && newcomers_.empty() && patient_.empty() && growing_.empty();
  }
  std::size_t prompt() const { return prompt_.size(); }
  std::size_t newcomers() const { return newcomers_.size(); }
  std::size_t patient() const { return patient_.size(); }
  std::size_t growing() const { return growing_.size(); }

 private:
  using Line = std::deque<std::uint64_t>;  // of handles
  void feed_line(Line& line, SiteBook& sites, const std::function<bool(const Site&)>& has_room,
                 const std::function<void(Site&)>& on_turn);

  Line prompt_, newcomers_, patient_;
  Line growing_;  // have some already, or are kept by their addresses
  bool newest_next_ = true;
};

}  // namespace postrider::delivery
