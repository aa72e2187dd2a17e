// What all sessions keep in memory of handshakes and TLS records of which the end has not come: one
// sum, shared by the loops. A client that goes on is done in a moment, so where the sum is used up
// whoever has waited longest gives way.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

namespace postrider::smtpd {

class UnfinishedTls {
 public:
  // A session in these books.
  class Waiter {
   public:
    virtual ~Waiter() = default;
    // Is to keep nothing, soon. On any thread, and not to call back from it.
    virtual void give_way() = 0;
  };
  // Of each session: not counted.
  static constexpr std::size_t kFree = 1U << 10U;

  struct Party {
    std::string name;
    bool is_stranger = true;
  };
  // The waiter keeps `octets` now, for this party. Strangers have one half of `budget`, and a party
  // half of what it is part of. False: the session is to end, for it is told to give way, or those
  // that are have not gone yet.
  bool note(Waiter& waiter, const Party& party, std::size_t octets, std::size_t budget);
  std::size_t held() const { return held_.load(std::memory_order_relaxed); }

 private:
  struct Kept;
  using ByAge = std::map<std::uint64_t, Kept*>;  // those that were not told
  struct Share {
    std::size_t octets = 0;  // of these
    ByAge by_age;
  };
  struct Kept {
    Waiter* waiter = nullptr;
    Party party;
    bool was_told = false;
    std::size_t octets = 0;
    std::uint64_t since = 0;  // the number of its first
  };

  void add(Waiter& waiter, const Party& party);
  void forget(const Kept& kept);
  void leave(const Kept& kept);
  void resize(Kept& kept, std::size_t octets);
  void tell(Kept& kept);
  void make_room(const Kept& asking, std::size_t budget);

  std::atomic<std::size_t> held_{0};
  std::mutex mutex_;
  std::unordered_map<Waiter*, Kept> all_;
  std::unordered_map<std::string, Share> by_party_;
  std::array<Share, 2> by_kind_;  // ours, and strangers'
  std::uint64_t number_ = 0;
};

}  // namespace postrider::smtpd
