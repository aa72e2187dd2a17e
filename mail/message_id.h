// The queue id of a message: time-ordered, unique for the life of the spool, 11 characters when
// written (Crockford's base 32, upper case), as it stands in replies, logs, listings and Received.
#pragma once

#include "base/time.h"

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::mail {

struct MessageId {
  std::int64_t value = 0;  // > 0; stored as SQLite's rowid
  friend auto operator<=>(const MessageId&, const MessageId&) = default;
};

std::string to_string(MessageId id);
std::optional<MessageId> parse_message_id(std::string_view text);  // ignores case

// Gives ids from the wall clock in microseconds, never twice and always growing, even when the
// clock is set back. Thread-safe.
class MessageIds {
 public:
  // last: the highest id ever stored, from the queue.
  void continue_after(MessageId last);
  MessageId next(TimePoint now);

 private:
  std::atomic<std::int64_t> last_{0};
};

}  // namespace postrider::mail

template <>
struct std::hash<postrider::mail::MessageId> {
  std::size_t operator()(const postrider::mail::MessageId& id) const noexcept {
    return std::hash<std::int64_t>()(id.value);
  }
};
