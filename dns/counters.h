// What a resolver has done so far.
#pragma once

#include <atomic>
#include <cstdint>

namespace postrider::dns {

// Counted by one thread, read by any.
class Counter {
 public:
  Counter& operator++() {
    value_.store(*this + 1, std::memory_order_relaxed);
    return *this;
  }
  operator std::uint64_t() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

struct Counters {
  Counter lookups;   // questions of callers
  Counter cached;    // answered from memory
  Counter joined;    // waited for a query that was already in flight
  Counter queries;   // sent over UDP or TCP
  Counter over_tcp;  // of these over TCP
  Counter timeouts;
  Counter dropped;   // datagrams with a wrong id or question
  Counter failures;  // lookups over the network that ended as temporary_failure
};

}  // namespace postrider::dns
