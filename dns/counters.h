// What a resolver has done so far.
#pragma once

#include <cstdint>

namespace postrider::dns {

struct Counters {
  std::uint64_t lookups = 0;   // questions of callers
  std::uint64_t cached = 0;    // answered from memory
  std::uint64_t joined = 0;    // waited for a query that was already in flight
  std::uint64_t queries = 0;   // sent over UDP or TCP
  std::uint64_t over_tcp = 0;  // of these over TCP
  std::uint64_t timeouts = 0;
  std::uint64_t dropped = 0;   // datagrams with a wrong id or question
  std::uint64_t failures = 0;  // lookups over the network that ended as temporary_failure
};

}  // namespace postrider::dns
