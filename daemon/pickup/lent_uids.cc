#include "daemon/pickup/lent_uids.h"

#include "base/text.h"
#include "daemon/privsep/privileges.h"

#include <algorithm>
#include <string>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostLent = 10'000;

}  // namespace

std::vector<LentUids> parse_subuids(std::string_view text) {
  std::vector<LentUids> found;
  for (const auto line : split(text, '\n')) {
    const auto parts = split(line, ':');
    if (parts.size() != 3 || found.size() >= kMostLent)
      continue;
    const auto first = parse_unsigned(parts[1]), count = parse_unsigned(parts[2]);
    auto owner = parse_unsigned(parts[0]);
    if (!owner)
      if (const auto account = find_account(std::string(parts[0])))
        owner = account->uid;
    if (owner && first && count && *first > 0)
      found.push_back({*first, *count, *owner});
  }
  return found;
}

const LentUids* find_lent(const std::vector<LentUids>& lent, std::uint64_t uid) {
  const auto found = std::find_if(lent.begin(), lent.end(), [uid](const LentUids& one) {
    return uid >= one.first && uid - one.first < one.count;
  });
  return found == lent.end() ? nullptr : &*found;
}

std::uint64_t party_of(const std::vector<LentUids>& lent, std::uint64_t uid) {
  const auto* const found = find_lent(lent, uid);
  if (found == nullptr)
    return uid;
  return found->owner == 0 ? found->first : found->owner;
}

}  // namespace postrider::daemon
