#include "delivery/connection_shares.h"

#include <algorithm>

namespace postrider::delivery {

std::size_t ConnectionShares::reserve() const {
  return most_ < 4 ? 0 : std::max<std::size_t>(most_ / 8, 1);
}

std::size_t ConnectionShares::missing_for_stranger(const Usage& usage) const {
  const auto free = most_ > usage.all ? most_ - usage.all : 0;
  return reserve() - std::min(reserve(), free);
}

// What slow sites leave to strangers, who have some already.
std::size_t ConnectionShares::left_to_strangers(const Usage& usage) const {
  return reserve() - std::min(reserve(), usage.strangers);
}

bool ConnectionShares::may_add(Standing standing, bool is_patient, std::size_t own,
                               const Usage& usage) const {
  const auto free = most_ > usage.all ? most_ - usage.all : 0;
  const auto is_left = [free](std::size_t reserve) { return free > reserve; };
  switch (standing) {
    case Standing::stranger:
      if (usage.strangers >= of_strangers())
        return false;
      if (is_patient && usage.patient >= (of_strangers() + 1) / 2)
        return false;
      return own == 0 ? is_left(reserve())
                      : is_left(most_ / 4) && usage.strangers < of_strangers() / 2;
    case Standing::slow:
      return own == 0 ? is_left(reserve() + left_to_strangers(usage))
                      : is_left(most_ / 4) && own <= free - most_ / 4;
    case Standing::prompt:
      return own == 0 ? free > 0 : own < 4 * free;
  }
  return false;
}

}  // namespace postrider::delivery
