// What was found of sites' limits, for the next start: a file of the spool that may be lost. Pure.
#pragma once

#include "base/time.h"

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace postrider::delivery {

class SiteMemory {
 public:
  static constexpr std::size_t kMostFile = 4U << 20U;

  struct Entry {
    std::string state;  // of SitePace::store()
    TimePoint at;       // when it was so last
  };
  // Empty: there is nothing to know.
  void note(const std::string& site, std::string state, TimePoint now);
  const Entry* find(const std::string& site) const;
  // True if something is to be written: once for each change.
  bool take_change() { return std::exchange(is_changed_, false); }

  // A line for each site, of at most 10,000 and those of the last week; what is no such line is
  // passed over.
  std::string write(TimePoint now) const;
  void read(std::string_view text, TimePoint now);
  std::size_t size() const { return entries_.size(); }

 private:
  void drop_oldest();

  std::unordered_map<std::string, Entry> entries_;
  bool is_changed_ = false;
};

}  // namespace postrider::delivery
