// What is known of the single hosts of a site, and of the two address families, apart from the
// site: one bad host of five, or IPv6 that is not liked, is no trouble of the others. Pure.
#pragma once

#include "base/time.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace postrider::scheduler {

enum class Family : std::uint8_t { ipv4, ipv6 };

struct RemoteHost {
  std::string name;
  Family family = Family::ipv4;
  std::uint16_t preference = 0;
};

class HostBook {
 public:
  // What is known of hosts that stay is kept.
  void set_hosts(std::vector<RemoteHost> hosts);
  const RemoteHost& host(std::size_t index) const { return entries_[index].host; }
  std::size_t size() const { return entries_.size(); }

  // The host for one more connection: of the best preference that has a healthy one, the one with
  // the most room; one that failed and may be tested comes before, with one connection at a time.
  // A `probe` may go to a host whose time has not come, the one that comes soonest.
  std::optional<std::size_t> choose(TimePoint now, bool is_probe) const;
  TimePoint next_test() const;  // of a host that failed; TimePoint::max(): none did

  void on_opening(std::size_t index) { ++entries_[index].open; }
  void on_closed(std::size_t index);
  void on_worked(std::size_t index);
  void on_failed(std::size_t index, TimePoint now);
  // Too many connections. True: no other host has room, so it is the site's limit.
  bool on_refused(std::size_t index, TimePoint now);
  // A message refused over IPv6 that may pass over IPv4.
  void on_ipv6_refused(TimePoint now);
  bool may_use_ipv6(TimePoint now) const { return now >= ipv6_off_until_; }
  bool has_healthy(TimePoint now) const;
  bool has_ipv4() const;

 private:
  static constexpr unsigned kNoCap = 100000;
  struct Entry {
    RemoteHost host;
    unsigned open = 0;
    unsigned cap = kNoCap;
    unsigned fails = 0;
    TimePoint retry_at, cap_until;
  };
  bool is_usable(const Entry& entry, TimePoint now) const;
  unsigned room(const Entry& entry, TimePoint now) const;

  std::vector<Entry> entries_;
  TimePoint ipv6_off_until_;
  unsigned ipv6_refusals_ = 0;
};

}  // namespace postrider::scheduler
