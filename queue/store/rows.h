// The rows of the queue as its parts speak of them. Times are the queue's own
// (queue/ledger/queue_time.h), in milliseconds.
#pragma once

#include "queue/queue.h"

#include <limits>
#include <string_view>

namespace postrider::queue {

// A time that does not come: of what is not due by itself.
inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// The time of a recipient that is bouncing because an administrator ended its lifetime; no other
// has it. Stored.
inline constexpr std::int64_t kExpireNow = kNever - 1;

// Whether a name in the table of domains stands for a host to which mail was rerouted.
inline bool is_next_hop(std::string_view domain) {
  return domain.find("://") != std::string_view::npos;
}

struct RecipientRow {
  std::uint32_t index = 0;
  std::int64_t domain = 0;
  RecipientState state = RecipientState::queued;
  std::uint32_t attempts = 0;
  std::int64_t next_attempt = 0;
  std::int64_t lane = 0;  // queue/waiting_lane.h; of a new row it is that of its message
  std::string last;       // encoded; empty: no attempt yet
  std::string address;    // filled by load only
  bool is_alive() const { return state < RecipientState::delivered; }
};

// Where a recipient stands among those that wait for its domain, in the order of their times.
struct QueuedPlace {
  std::int64_t next_attempt = 0;
  mail::MessageId id;
  std::uint32_t index = 0;
};
struct QueuedEntry {
  QueuedPlace place;
  std::string address;
};

struct UntriedEntry {
  mail::MessageId id;
  std::uint32_t index = 0;
  std::int64_t domain = 0;
  std::int64_t next_attempt = 0;
  TimePoint release;  // as of mail::Envelope
};

// In the column `delayed`. Stored.
inline constexpr std::int64_t kDelayed = 1, kLateTold = 2;

struct MessageRow {
  std::int64_t deadline = 0;
  std::int64_t expires = 0;
  std::int64_t waiting = 0;  // living recipients, but those held
  std::int64_t held = 0;
  bool tried = false;
  bool delayed = false;    // the delay notice was sent, or is not wanted
  bool late_told = false;  // the same of the notice that it is later than its sender wished
  std::int64_t logged = 0;
};

// Of the living recipients of a message.
struct RecipientCounts {
  std::int64_t waiting = 0;
  std::int64_t held = 0;
  std::int64_t bouncing = 0;  // who are among those waiting
  bool has_any() const { return waiting + held > 0; }
};

struct PauseRow {
  Pause::Of of = Pause::Of::all;
  std::string name;        // canonical (queue/store/pause_set.h)
  std::int64_t since = 0;  // wall clock
  std::int64_t until = kNever;
  unsigned uid = 0;
  std::string user;
};

struct SiteRow {
  std::int64_t wake = kNever;
  std::int64_t blocked_until = 0;
  std::uint32_t failures = 0;
};

// A message with what its content must be: for content in a file, which is read elsewhere.
struct StoredMessage {
  std::shared_ptr<const mail::Message> message;
  std::optional<std::uint32_t> checksum;
};

struct IdRange {
  std::int64_t after = 0;
  std::int64_t to = std::numeric_limits<std::int64_t>::max();
};

}  // namespace postrider::queue
