// User ids that a user may use besides the own, for containers: subuid(5). Whoever runs as one of
// them is the user who was lent it, wherever users have shares and take turns.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace postrider::daemon {

struct LentUids {
  std::uint64_t first = 0, count = 0;
  std::uint64_t owner = 0;
};
// What a file of that form says; lines that are wrong are passed over. Looks at the user database.
std::vector<LentUids> parse_subuids(std::string_view text);

// Null: nobody lends this one. The first entry counts.
const LentUids* find_lent(const std::vector<LentUids>& lent, std::uint64_t uid);

// Whose share what this user does is part of. A range that root lends is a party of its own: what
// runs there is not root, and one container is not the other.
std::uint64_t party_of(const std::vector<LentUids>& lent, std::uint64_t uid);

}  // namespace postrider::daemon
