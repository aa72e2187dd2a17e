// What makes a submission that comes again the same message though nobody dropped it: a drop_id of
// a key, which is two halves with a full stop between them. The first says whose request it is, the
// second what it asks for. It is known for a day after its message was taken;
// Queue::accept_dropped() gives Errc::refused if the first half is known with another second one.
#pragma once

#include <string>
#include <string_view>

namespace postrider::queue {

inline constexpr std::string_view kKeyIds = "key.";

// A drop_id of what was taken out of the queue of another mail server. It is known until it is
// forgotten, and no file of ours.
inline constexpr std::string_view kOldMailIds = "old.";

inline std::string key_id(std::string_view key) {
  return std::string(kKeyIds).append(key);
}
inline bool is_key_id(std::string_view drop_id) {
  return drop_id.starts_with(kKeyIds);
}
// Of a key_id().
inline std::string_view first_half(std::string_view key_id) {
  return key_id.substr(0, key_id.rfind('.'));
}

}  // namespace postrider::queue
