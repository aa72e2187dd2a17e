// What TLS with other servers keeps in memory, in one sum over all connections of the process. A server chooses how
// much its certificates take here (tls_openssl.h, octets_in_memory), and others choose the servers that mail goes to.
// A connection has its share before it begins its handshake; where the sum is used up it waits for its turn.
// Thread-safe.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

namespace postrider {

class OutgoingTls {
 public:
  static constexpr std::size_t kBudget = 128U << 20U;
  // Of each handshake, from its beginning: OpenSSL's own, a record, and certificates as most servers have them.
  static constexpr std::size_t kOfHandshake = 128U << 10U;
  // Of each session after it, beside the certificates.
  static constexpr std::size_t kOfSession = 33U << 10U;

  explicit OutgoingTls(std::size_t budget = kBudget) : budget_(budget) {}
  OutgoingTls(const OutgoingTls&) = delete;
  OutgoingTls& operator=(const OutgoingTls&) = delete;
  // The one that all contexts have which are given no other.
  static const std::shared_ptr<OutgoingTls>& of_process();

  // Of one connection. Gives back what it has, and leaves the line, when it ends.
  class Share {
   public:
    explicit Share(std::shared_ptr<OutgoingTls> books) : books_(std::move(books)) {}
    ~Share();
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    // Once. True: it has kOfHandshake. False: on_turn is called when it has, on any thread, and is not to call back.
    bool begin(std::function<void()> on_turn);
    // Requires: it has its first share. False: there is no room for so much; nothing has changed.
    bool resize(std::size_t octets);

   private:
    friend class OutgoingTls;
    std::shared_ptr<OutgoingTls> books_;
    std::size_t octets_ = 0;
    std::function<void()> on_turn_;
    std::list<Share*>::iterator place_;  // in the line, while there is on_turn_
  };

  std::size_t held() const;
  std::size_t waiting() const;

 private:
  bool has_room(std::size_t more) const { return held_ + more <= budget_; }
  // What is above kOfHandshake may fill a quarter: servers with very large certificates keep out nobody else.
  bool has_room_for_large(std::size_t more) const { return large_ + more <= budget_ / 4; }
  void set(Share& share, std::size_t octets);
  void let_in();

  const std::size_t budget_;
  mutable std::mutex mutex_;
  std::size_t held_ = 0;
  std::size_t large_ = 0;  // of these, above kOfHandshake of each
  std::list<Share*> line_;
};

}  // namespace postrider
