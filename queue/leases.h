// What is in delivery's hands, in memory only: after a stop all of it is due again. Written by the
// queue thread, looked at by listings.
#pragma once

#include "queue/queue.h"

#include <mutex>
#include <unordered_map>

namespace postrider::queue {

struct Leased {
  Lease::Reason reason = Lease::Reason::due;
  std::shared_ptr<const mail::Message> message;
  bool landed = false;                    // its row is still in `incoming`
  std::vector<std::uint32_t> recipients;  // sorted; empty: all of them
  std::vector<std::int64_t> domains;      // each once; only of due ones
  std::int64_t site = -1;                 // the one it was leased for; only of due ones
  std::vector<std::uint32_t> removed;     // by an administrator; not counted as such yet
  bool holds(std::uint32_t recipient) const;
};

// What a message costs in memory while it is leased.
std::size_t memory_of(const mail::Message& message);

// Adding, taking and counting: on the queue thread.
class Leases {
 public:
  using Node = std::unordered_map<std::int64_t, Leased>::node_type;

  struct Usage {
    std::size_t messages = 0;
    std::size_t bytes = 0;
  };

  void add(Leased leased);
  Node take(mail::MessageId id);  // an empty node if it is not leased
  void put_back(Node node);
  Leased* find(mail::MessageId id);
  Usage fresh() const { return fresh_; }
  Usage due() const { return due_; }
  std::size_t of_domain(std::int64_t domain) const;
  std::size_t of_site(std::int64_t site) const;

  // Any thread.
  bool is_leased(mail::MessageId id) const;
  bool is_leased(mail::MessageId id, std::uint32_t recipient) const;
  std::size_t size() const;
  std::vector<mail::MessageId> ids() const;

 private:
  void count(const Leased& leased, int sign);

  mutable std::mutex mutex_;  // held for changes of leased_, and for looks from other threads
  std::unordered_map<std::int64_t, Leased> leased_;
  std::unordered_map<std::int64_t, std::size_t> by_domain_;
  std::unordered_map<std::int64_t, std::size_t> by_site_;
  Usage fresh_;
  Usage due_;
};

}  // namespace postrider::queue
