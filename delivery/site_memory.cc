#include "delivery/site_memory.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

using std::chrono::seconds;

constexpr std::size_t kMostRemembered = 10'000;
constexpr std::size_t kLongestName = 2000;
constexpr std::size_t kLongestState = 200;
constexpr Duration kRemembered = std::chrono::hours(24 * 7);

bool is_one_line(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

bool may_be_kept(std::string_view site, std::string_view state) {
  return !site.empty() && site.size() <= kLongestName && !state.empty() &&
         state.size() <= kLongestState && is_one_line(site) && is_one_line(state);
}

}  // namespace

void SiteMemory::note(const std::string& site, std::string state, TimePoint now) {
  const auto known = entries_.find(site);
  if (state.empty()) {
    if (known == entries_.end())
      return;
    entries_.erase(known);
    is_changed_ = true;
    return;
  }
  if (!may_be_kept(site, state))
    return;
  if (known != entries_.end()) {
    is_changed_ = is_changed_ || known->second.state != state;
    known->second = {std::move(state), now};
    return;
  }
  if (entries_.size() >= kMostRemembered)
    drop_oldest();
  entries_.emplace(site, Entry{std::move(state), now});
  is_changed_ = true;
}

const SiteMemory::Entry* SiteMemory::find(const std::string& site) const {
  const auto found = entries_.find(site);
  return found == entries_.end() ? nullptr : &found->second;
}

void SiteMemory::drop_oldest() {
  const auto oldest =
      std::min_element(entries_.begin(), entries_.end(),
                       [](const auto& a, const auto& b) { return a.second.at < b.second.at; });
  entries_.erase(oldest);
}

// "1764446400 1 5 1 30 1.5 1.4 120<tab>mx.example.org"
std::string SiteMemory::write(TimePoint now) const {
  std::string text;
  for (const auto& [site, entry] : entries_) {
    if (now - entry.at > kRemembered)
      continue;
    const auto at = std::chrono::duration_cast<seconds>(entry.at.time_since_epoch()).count();
    text.append(std::to_string(at)).append(" ").append(entry.state);
    text.append("\t").append(site).append("\n");
  }
  return text;
}

void SiteMemory::read(std::string_view text, TimePoint now) {
  for (const auto line : split(text.substr(0, kMostFile), '\n')) {
    const auto space = line.find(' '), tab = line.find('\t');
    if (space == line.npos || tab == line.npos || tab < space || entries_.size() >= kMostRemembered)
      continue;
    const auto at = parse_unsigned(line.substr(0, space));
    const auto state = line.substr(space + 1, tab - space - 1), site = line.substr(tab + 1);
    const auto now_seconds = std::chrono::duration_cast<seconds>(now.time_since_epoch()).count();
    if (!at || !may_be_kept(site, state))
      continue;
    // A clock that was wrong when it was written makes nothing younger than now.
    const auto seen = std::min(*at, static_cast<std::uint64_t>(now_seconds));
    const TimePoint when{seconds(static_cast<std::int64_t>(seen))};
    if (now - when <= kRemembered)
      entries_.insert_or_assign(std::string(site), Entry{std::string(state), when});
  }
}

}  // namespace postrider::delivery
