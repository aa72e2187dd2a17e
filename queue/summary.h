// What waits, in groups: by the domain it goes to, its site, its sender, the client it came from,
// the reason why it waits, or its age in each domain. Pure: it is given one recipient after the
// other, in the order of the messages, and counts.
#pragma once

#include "base/time.h"
#include "mail/message_id.h"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postrider::queue {

enum class SummaryKey : std::uint8_t { domain, site, sender, client, reason, age };
std::optional<SummaryKey> parse_summary_key(std::string_view word);
const char* name_of(SummaryKey key);

// The reason without what differs from message to message: addresses, numbers and queue ids. What
// it keeps of numbers are the codes of a reply. At most 300 octets.
std::string reason_pattern(std::string_view reason);

class Summary {
 public:
  // Ages in minutes: less than 5, less than 10, ..., less than 1280, and the rest.
  static constexpr std::array<int, 9> kAgeLimits = {5, 10, 20, 40, 80, 160, 320, 640, 1280};
  static constexpr std::size_t kAges = kAgeLimits.size() + 1;
  static std::size_t age_of(std::int64_t minutes);  // which of these
  // Beyond so many groups, what belongs to another one is counted in others().
  static constexpr std::size_t kMostGroups = 100'000;

  struct Item {
    mail::MessageId message;
    TimePoint received;
    std::uint64_t size = 0;  // of the message
    std::string_view domain, site, sender, client;
    std::string_view reason;  // a pattern
  };
  struct Group {
    std::string key;
    std::uint64_t messages = 0, recipients = 0;
    std::uint64_t bytes = 0;  // of these messages
    TimePoint oldest = TimePoint::max();
    std::array<std::uint64_t, kAges> ages = {};  // recipients
    mail::MessageId latest;                      // the message that was counted last
  };

  Summary(SummaryKey by, TimePoint now) : by_(by), now_(now) {}
  SummaryKey by() const { return by_; }
  // Items of one message follow each other.
  void add(const Item& item);
  const Group& total() const { return total_; }
  const Group& others() const { return others_; }
  std::size_t groups() const { return groups_.size(); }
  // Those with the most recipients, and where that is equal in the order of their keys.
  std::vector<const Group*> largest(std::size_t most) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view key) const {
      return std::hash<std::string_view>()(key);
    }
  };
  Group& group_of(std::string_view key);
  static void count(Group& group, const Item& item, std::size_t age);

  SummaryKey by_;
  TimePoint now_;
  std::unordered_map<std::string, Group, Hash, std::equal_to<>> groups_;
  Group* last_ = nullptr;  // where the latest item was counted
  Group total_, others_;
};

}  // namespace postrider::queue
