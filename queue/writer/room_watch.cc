#include "queue/writer/room_watch.h"

namespace postrider::queue {

void RoomWatch::check(std::uint64_t needed, bool is_open) {
  needed_ = needed;
  const auto now = clock_.steady();
  if (now < checked_ + kEvery && !is_check_wanted_)
    return;
  checked_ = now;
  has_room_ = spool_.has_room(needed);
  if (is_open)
    set(has_room() ? Admission::open : Admission::disk_low);
  is_check_wanted_ = false;
  if (has_room())
    spool_.make_reserve();
}

void RoomWatch::check_at_once(std::uint64_t needed, bool is_open) {
  checked_ = {};
  check(needed, is_open);
}

// Only a queue that takes mail may have nothing to do: without room its thread looks by itself.
Admission RoomWatch::ask() {
  const auto known = admission();
  if (known != Admission::open)
    return known;
  const auto now = clock_.steady();
  auto asked = asked_.load();
  if (now >= asked + kAskedEvery && asked_.compare_exchange_strong(asked, now))
    is_check_wanted_ = !spool_.has_room(needed_);
  return is_check_wanted_ ? Admission::disk_low : known;
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
