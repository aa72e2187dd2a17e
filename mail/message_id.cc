#include "mail/message_id.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::mail {

namespace {

constexpr char kDigits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr int kLength = 11;

}  // namespace

std::string to_string(MessageId id) {
  std::string text(kLength, '0');
  auto rest = static_cast<std::uint64_t>(id.value);
  for (int i = kLength - 1; i >= 0; --i, rest >>= 5U)
    text[static_cast<std::size_t>(i)] = kDigits[rest & 31U];
  return text;
}

std::optional<MessageId> parse_message_id(std::string_view text) {
  if (text.size() != kLength)
    return std::nullopt;
  std::int64_t value = 0;
  for (const char c : text) {
    const char upper = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    const auto digit = std::string_view(kDigits).find(upper);
    if (digit == std::string_view::npos)
      return std::nullopt;
    value = value * 32 + static_cast<std::int64_t>(digit);
  }
  return value > 0 ? std::optional(MessageId{value}) : std::nullopt;
}

void MessageIds::continue_after(MessageId last) {
  auto known = last_.load();
  while (known < last.value && !last_.compare_exchange_weak(known, last.value)) {
  }
}

MessageId MessageIds::next(TimePoint now) {
  const std::int64_t wanted = now.time_since_epoch().count() * 1000;
  auto last = last_.load(std::memory_order_relaxed);
  for (;;) {
    const auto id = std::max(wanted, last + 1);
    if (last_.compare_exchange_weak(last, id, std::memory_order_relaxed))
      return MessageId{id};
  }
}

}  // namespace postrider::mail
