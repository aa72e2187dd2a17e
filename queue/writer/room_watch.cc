#include "queue/writer/room_watch.h"

namespace postrider::queue {

void RoomWatch::check(std::uint64_t needed, bool is_open) {
  const auto now = clock_.steady();
  if (now < checked_ + kEvery)
    return;
  checked_ = now;
  has_room_ = spool_.has_room(needed);
  if (is_open)
    set(has_room() ? Admission::open : Admission::disk_low);
  if (has_room())
    spool_.make_reserve();
}

void RoomWatch::check_at_once(std::uint64_t needed, bool is_open) {
  checked_ = {};
  check(needed, is_open);
}

void RoomWatch::found_full() {
  is_full_ = true;
  spool_.give_up_reserve();
}

bool RoomWatch::has_written() {
  return std::exchange(is_full_, false);
}

void RoomWatch::set(Admission admission) {
  auto known = admission_.load();
  while (known != Admission::stopping && known != admission &&
         !admission_.compare_exchange_weak(known, admission)) {
  }
}

}  // namespace postrider::queue
