#include "daemon/reload_desk.h"

namespace postrider::daemon {

ReloadDesk::ReloadDesk(std::function<void()> wake) : wake_(std::move(wake)) {}

// The number is given before the thread is woken, so that it knows of it.
std::uint64_t ReloadDesk::ask() {
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = ++asked_;
  }
  wake_();
  return number;
}

std::uint64_t ReloadDesk::asked_for() const {
  const std::lock_guard lock(mutex_);
  return asked_;
}

std::optional<ReloadVerdict> ReloadDesk::verdict(std::uint64_t number) {
  constexpr Duration kLittle{500};
  std::unique_lock lock(mutex_);
  const auto is_judged = [&] { return judged_up_to_ >= number; };
  if (!judged_.wait_for(lock, kLittle, [&] { return is_judged() || is_stopping_; }) || !is_judged())
    return std::nullopt;
  return verdict_;
}

void ReloadDesk::set_verdict(std::uint64_t up_to, ReloadVerdict verdict) {
  {
    const std::lock_guard lock(mutex_);
    verdict_ = std::move(verdict);
    judged_up_to_ = up_to;
  }
  judged_.notify_all();
}

std::string ReloadDesk::problem() const {
  const std::lock_guard lock(mutex_);
  return verdict_.problems.empty() ? std::string() : verdict_.problems.front();
}

void ReloadDesk::stop() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  judged_.notify_all();
}

}  // namespace postrider::daemon
