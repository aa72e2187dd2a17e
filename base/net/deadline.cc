#include "base/net/deadline.h"

#include <algorithm>

namespace postrider {

Deadline::Deadline(DeadlineWheel& wheel, std::function<void()> expired)
    : wheel_(wheel), expired_(std::move(expired)) {}

Deadline::~Deadline() {
  unlink();
}

void Deadline::set(Duration from_now) {
  due_ = std::chrono::steady_clock::now() + from_now;
  armed_ = true;
  const bool linked = filed_until_ != SteadyTime{};
  // Its slot comes first and will file it again, or comes soon enough. Filing again what is due in
  // the next slot anyway could put it off for ever, if that is done often enough.
  if (linked && filed_until_ <= due_ + DeadlineWheel::kTick)
    return;
  unlink();
  wheel_.file(*this);
}

void Deadline::unlink() {
  if (filed_until_ == SteadyTime{})
    return;
  if (next_ != nullptr)
    next_->previous_ = previous_;
  if (previous_ != nullptr)
    previous_->next_ = next_;
  else
    wheel_.slots_[slot_].first = next_;
  previous_ = next_ = nullptr;
  filed_until_ = {};
  --wheel_.linked_;
}

DeadlineWheel::DeadlineWheel(asio::io_context& context)
    : current_time_(std::chrono::steady_clock::now()), timer_(context) {}

// What a stopped loop abandons is destroyed after its wheel, with the loop's context.
DeadlineWheel::~DeadlineWheel() {
  for (auto& slot : slots_)
    while (slot.first != nullptr)
      slot.first->unlink();
}

void DeadlineWheel::stop() {
  stopped_ = true;
  timer_.cancel();
}

// Files into the slot whose time is at or after the due time, or the farthest slot there is.
void DeadlineWheel::file(Deadline& deadline) {
  if (linked_ == 0)
    current_time_ = std::chrono::steady_clock::now();
  auto ahead = deadline.due_ <= current_time_
                   ? 1
                   : (deadline.due_ - current_time_ + kTick - std::chrono::nanoseconds(1)) / kTick;
  ahead = std::clamp<decltype(ahead)>(ahead, 1, kSlots - 1);
  deadline.slot_ = (current_ + static_cast<std::size_t>(ahead)) % kSlots;
  auto& slot = slots_[deadline.slot_];
  deadline.filed_until_ = current_time_ + ahead * kTick;
  deadline.previous_ = nullptr;
  deadline.next_ = slot.first;
  if (slot.first != nullptr)
    slot.first->previous_ = &deadline;
  slot.first = &deadline;
  ++linked_;
  schedule_tick();
}

void DeadlineWheel::schedule_tick() {
  if (ticking_ || stopped_)
    return;
  timer_.expires_at(current_time_ + kTick);
  timer_.async_wait([this](const boost::system::error_code& error) {
    ticking_ = false;
    if (!error && !stopped_)
      tick();
  });
  ticking_ = true;  // not before: where memory is short, the next deadline tries again
}

// What a function throws is its own matter: the others have their turn at the next tick.
void DeadlineWheel::tick() {
  try {
    call_expired();
  } catch (...) {
    auto& slot = slots_[current_];
    while (Deadline* deadline = slot.first) {
      deadline->unlink();
      file(*deadline);
    }
    if (linked_ > 0)
      schedule_tick();
    throw;
  }
  if (linked_ > 0)
    schedule_tick();
}

void DeadlineWheel::call_expired() {
  const auto now = std::chrono::steady_clock::now();
  while (current_time_ + kTick <= now && linked_ > 0) {
    current_time_ += kTick;
    current_ = (current_ + 1) % kSlots;
    auto& slot = slots_[current_];
    while (Deadline* deadline = slot.first) {
      deadline->unlink();
      if (!deadline->armed_)
        continue;
      if (deadline->due_ > now) {
        file(*deadline);
        continue;
      }
      deadline->armed_ = false;
      const auto expired = deadline->expired_;  // the call may destroy the deadline
      expired();
    }
  }
}

}  // namespace postrider
