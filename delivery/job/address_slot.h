// Connections to one address, whatever names lead there. The dispatcher looks, couriers on any loop
// take and give back.
#pragma once

#include <atomic>
#include <memory>

namespace postrider::delivery {

class AddressSlot {
 public:
  explicit AddressSlot(unsigned most) : most_(most) {}
  bool is_full() const { return taken_.load(std::memory_order_relaxed) >= most_; }
  bool is_unused() const { return taken_.load(std::memory_order_relaxed) == 0; }

  // Held while it lives; empty if there was none left.
  class Hold {
   public:
    Hold() = default;
    explicit Hold(std::shared_ptr<AddressSlot> slot) : slot_(std::move(slot)) {}
    Hold(Hold&& other) noexcept : slot_(std::move(other.slot_)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (slot_)
        slot_->taken_.fetch_sub(1, std::memory_order_relaxed);
    }
    explicit operator bool() const { return slot_ != nullptr; }
    const std::shared_ptr<AddressSlot>& slot() const { return slot_; }

   private:
    std::shared_ptr<AddressSlot> slot_;
  };
  static Hold take(const std::shared_ptr<AddressSlot>& slot) {
    if (slot->taken_.fetch_add(1, std::memory_order_relaxed) < slot->most_)
      return Hold(slot);
    slot->taken_.fetch_sub(1, std::memory_order_relaxed);
    return Hold();
  }

 private:
  const unsigned most_;
  std::atomic<unsigned> taken_{0};
};

}  // namespace postrider::delivery
