// What is in delivery's hands, in memory only: after a stop all of it is due again. Written by the
// queue thread, looked at by listings.
#pragma once

#include "queue/queue.h"

#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

namespace postrider::queue {

inline constexpr std::int64_t kNoDeadline = std::numeric_limits<std::int64_t>::max();

// Some recipients of a message. It may be leased several times at once, for others each time: whom
// one host keeps waiting holds up nobody else's retry. So a record is of the lease that holds those
// whom it names. A delay notice keeps nobody from being tried: it names its recipients and holds none.
struct Leased {
  struct Place {
    std::int64_t domain = 0;
    std::int64_t site = 0;  // when it was leased
    std::int64_t lane = 0;  // of its row (queue/waiting_lane.h)
  };
  std::uint64_t number = 0;  // never given twice
  Lease::Reason reason = Lease::Reason::due;
  std::shared_ptr<const mail::Message> message;
  bool landed = false;                    // its row is still in `incoming`; see set_landed()
  std::int64_t deadline = kNoDeadline;    // of one that has landed, in the queue's time
  std::uint64_t lane = 0;                 // mail::sender_lane(), of fresh ones
  std::vector<std::uint32_t> recipients;  // sorted; empty: all of them
  std::vector<Place> places;              // of these recipients, in their order; only of due ones
  std::vector<std::uint32_t> removed;     // by an administrator; not counted as such yet
  std::vector<std::uint32_t> again;       // to be tried again at once if deferred now; sorted
  bool holds(std::uint32_t recipient) const;
  bool is_wanted_again(std::uint32_t recipient) const;
  void want_again(std::uint32_t recipient);
};

// A message with more recipients than that is stored, and handed out, in parts, for other mail not
// to wait for all of them.
inline constexpr std::size_t kMostTogether = 1000;
inline bool is_large(const mail::Message& message) {
  return message.envelope.recipients.size() > kMostTogether;
}

// What a message costs in memory while it is leased.
std::size_t memory_of(const mail::Message& message);

// Adding, taking and counting: on the queue thread.
class Leases {
 public:
  using Node = std::unordered_multimap<std::int64_t, Leased>::node_type;

  struct Usage {
    std::size_t messages = 0;
    std::size_t bytes = 0;
  };

  void add(Leased leased);
  // An empty node if there is no such lease.
  Node take(mail::MessageId id, std::uint64_t number);
  Node take_holder(mail::MessageId id, std::uint32_t recipient);
  void put_back(Node node);
  Leased* find(mail::MessageId id);  // one of them
  Leased* find(mail::MessageId id, std::uint64_t number);
  Leased* holder(mail::MessageId id, std::uint32_t recipient);
  Usage fresh() const { return fresh_; }
  Usage fresh_of(std::uint64_t lane) const;  // one sender's
  Usage due() const { return due_; }
  std::size_t notices() const { return notices_; }  // of due(), those that ask for no attempt
  bool is_being_told(mail::MessageId id) const;     // of its delay
  // What is leased as landed has no row with its deadline: it is found here.
  void set_landed(Leased& leased, bool landed);
  Leased* first_landed(std::int64_t due);  // null: none has its deadline by then
  std::int64_t next_landed() const;        // kNoDeadline: none has one
  void each(const std::function<void(const Leased&)>& visit) const;
  // Leases with recipients there.
  std::size_t of_domain(std::int64_t domain) const;
  std::size_t of_site(std::int64_t site) const;
  std::size_t of_lane(std::int64_t domain, std::int64_t lane) const;
  // Recipients of due work of a message, by domain.
  std::unordered_map<std::int64_t, std::size_t> places_of(mail::MessageId id) const;

  // Any thread. Whether it is to be tried, or to be returned.
  bool is_leased(mail::MessageId id) const;
  bool is_leased(mail::MessageId id, std::uint32_t recipient) const;
  std::size_t messages() const;
  std::vector<mail::MessageId> ids() const;

 private:
  void count(const Leased& leased, int sign);
  void count_deadline(const Leased& leased, int sign);
  std::size_t cost_of(const Leased& leased) const;

  mutable std::mutex mutex_;  // held for changes of leased_, and for looks from other threads
  std::unordered_multimap<std::int64_t, Leased> leased_;
  std::size_t messages_ = 0;  // of leased_, each once
  std::unordered_map<std::int64_t, std::size_t> by_domain_;
  std::unordered_map<std::int64_t, std::size_t> by_site_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> by_lane_;  // of a domain
  Usage fresh_;
  std::unordered_map<std::uint64_t, Usage> fresh_by_lane_;
  Usage due_;
  std::size_t notices_ = 0;
  std::set<std::pair<std::int64_t, std::int64_t>> landed_;  // deadline and message
};

}  // namespace postrider::queue
