// What a user may send in an hour and in a day (pure): messages, recipients, and recipients whom
// the user has never written to before. A stolen password sends to many strangers at once; its
// owner hardly ever does.
//
// Counted in windows that slide: an hour in 12 slots, a day in 24. Bounded: kMostUsers users, those
// silent for longest forgotten first; of each the last kMostFriends recipients, as hashes.
#pragma once

#include "base/time.h"

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace postrider::smtpd::auth {

class SendingQuota {
 public:
  static constexpr std::size_t kMostUsers = 20000;
  static constexpr std::size_t kMostFriends = 5000;

  enum Item : std::uint8_t { messages, recipients, new_recipients };
  static constexpr std::size_t kItems = 3;
  struct Rules {  // 0: no limit
    std::array<std::uint32_t, kItems> hour{};
    std::array<std::uint32_t, kItems> day{};
  };
  struct Verdict {
    std::string_view limit;  // "500 recipients an hour" without the number; empty: within all
    std::uint32_t most = 0;  // the number
    bool is_fresh = false;   // the first refusal of this limit in its window: an alarm
  };
  struct Limited {  // who is at a limit now
    std::string user;
    std::string_view limit;
    std::uint32_t most = 0;
    TimePoint since;
  };

  explicit SendingQuota(Rules rules) : rules_(rules) {}
  void set_rules(const Rules& rules) { rules_ = rules; }

  // Count one more, unless that would exceed a limit. recipient: a hash of it.
  Verdict add_message(std::string_view user, TimePoint now);
  Verdict add_recipient(std::string_view user, std::uint64_t recipient, TimePoint now);
  // A message with so many recipients at once, all or nothing; who they are is not looked at.
  Verdict add(std::string_view user, std::uint32_t recipient_count, TimePoint now);

  std::vector<Limited> limited(TimePoint now) const;

  // Everything, in an own binary form, to survive a restart. restore() drops what it cannot read.
  std::string save() const;
  void restore(std::string_view saved);

 private:
  template <std::size_t kSlots>
  struct Window {
    std::array<std::uint32_t, kSlots> slots{};
    std::int64_t last = 0;  // the number of the newest slot since the epoch
    std::uint32_t sum = 0;
    void move_to(std::int64_t slot);
    void add(std::uint32_t count);
  };
  struct Counts {
    Window<12> hour;
    Window<24> day;
    void add(std::uint32_t count);
  };
  struct Alarm {
    std::string_view limit;
    std::uint32_t most = 0;
    TimePoint since;
    TimePoint until;  // no further alarm before
  };
  struct User {
    std::array<Counts, kItems> counts;
    std::unordered_set<std::uint64_t> friends;
    std::deque<std::uint64_t> order;  // of the friends, oldest first
    Alarm alarm;
    TimePoint seen;
  };

  User& user_of(std::string_view name, TimePoint now);
  bool fits(User& user, Item item, std::uint32_t count, TimePoint now, Verdict& verdict);
  static void befriend(User& user, std::uint64_t recipient);

  Rules rules_;
  std::map<std::string, User, std::less<>> users_;
};

}  // namespace postrider::smtpd::auth
