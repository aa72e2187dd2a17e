// Whether a user's .forward may send mail on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace postrider::delivery {

// Now, later, or never to so many at once.
struct ForwardVerdict {
  enum class Kind : std::uint8_t { now, later, never };
  Kind kind = Kind::now;
  std::string limit;  // "500 messages an hour"; never: "to 2000 at most"
};
// Counts a message that a user's .forward sends on to so many recipients, elsewhere or of other
// users, unless that is not to be. Blocks; thread-safe.
using CountForward = std::function<ForwardVerdict(const std::string& user, std::size_t recipients)>;

}  // namespace postrider::delivery
