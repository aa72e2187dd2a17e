// Who is made to wait before the first message: a network of clients (an IPv4 /24, an IPv6 /64), a
// sender and a recipient that were never seen together. Who comes again after the delay is known
// from then on, and a network that has shown often enough that it comes again waits no more. Pure
// but for its mutex; a hand clock's time goes in.
//
// Memory is bounded: what only waits gives way first, the oldest of it; a network has a share of
// that, so that none takes the places of the others.
#pragma once

#include "base/network.h"
#include "base/time.h"

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

namespace postrider::smtpd::filter {

class Greylist {
 public:
  struct Rules {
    Duration delay{std::chrono::minutes(5)};
    Duration window{std::chrono::hours(48)};     // for coming again
    Duration lifetime{std::chrono::hours(840)};  // of what is known, since it was last of use
    std::uint32_t successes = 5;                 // after which a network waits no more; 0: never
    std::size_t entries = 200'000;
    std::size_t of_network = 2'000;  // that only wait
  };
  explicit Greylist(const Rules& rules) : rules_(rules) {}
  void set_rules(const Rules& rules);

  // 0: it may pass; else how long it has to wait.
  Duration check(const IpAddress& client, std::string_view sender, std::string_view recipient,
                 TimePoint now);
  std::size_t size() const;

  // What is known and what waits, as lines of text, to survive a restart. Skips a line that it
  // cannot parse.
  std::string snapshot() const;
  void restore(std::string_view lines, TimePoint now);

 private:
  struct Entry {
    TimePoint first, last;
    bool is_known = false;
    std::uint32_t successes = 0;  // of a network
    std::string network;          // the key of it, of those that wait
    std::list<std::string>::iterator place;
  };
  using Entries = std::unordered_map<std::string, Entry>;
  bool is_over(const Entry& entry, TimePoint now) const;
  void erase(Entries::iterator at);
  Entry& add(const std::string& key, bool is_known, TimePoint now);
  void make_room();
  void promote(Entries::iterator at, TimePoint now);
  void touch(Entry& entry, TimePoint now);

  mutable std::mutex mutex_;
  Rules rules_;
  Entries entries_;
  std::list<std::string> waiting_, known_;                   // keys; the oldest first
  std::unordered_map<std::string, std::size_t> waiting_of_;  // by network
};

}  // namespace postrider::smtpd::filter
