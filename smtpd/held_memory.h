// What one session keeps in memory of what its client sent, in the books of SessionLimits. Lives on
// the session's loop; the books call it from any thread.
#pragma once

#include "smtpd/loop_connections.h"
#include "smtpd/session_limits.h"

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

namespace postrider::smtpd {

// Whose share of the memory a client's is part of: many users may be behind one address, and one
// user at many.
SessionLimits::Party party_of(const Client& client);

class HeldMemory final : private SessionLimits::Keeper {
 public:
  // let_go: called on the loop while the session waits for its client and is to keep no more than
  // its first octets. connections and limits outlive it.
  HeldMemory(LoopConnections& connections, const Limits& limits, std::function<void()> let_go);
  ~HeldMemory() override;
  HeldMemory(const HeldMemory&) = delete;
  HeldMemory& operator=(const HeldMemory&) = delete;

  // So many octets are kept now, for this client. False: that is beyond its share.
  bool note(std::size_t octets, const Client& client);
  // The same, and is_over_share() says from now on what came of it.
  void check(std::size_t octets, const Client& client);

  std::size_t octets() const { return octets_; }
  // What every session may keep.
  std::size_t first_octets() const { return first_octets_; }
  // As check() found it, or the session was told to let go.
  bool is_over_share() const { return is_over_share_; }

  // The session waits for its client's next octets, or for it to read replies.
  void set_waits_for_client(bool waits) { waits_for_client_ = waits; }
  bool waits_for_client() const { return waits_for_client_; }

 private:
  bool can_let_go() const override { return waits_for_client_.load(std::memory_order_relaxed); }
  void let_go() override;
  void let_go_here();
  bool count(std::size_t octets);

  LoopConnections& connections_;
  const Limits& limits_;
  const std::function<void()> on_let_go_;
  const std::size_t first_octets_;
  std::size_t octets_ = 0;
  SessionLimits::Party party_;  // whose share they are part of
  bool has_logged_in_ = false;
  bool is_over_share_ = false;
  bool must_let_go_ = false;  // of what is beyond the first octets
  std::atomic<bool> waits_for_client_{false};
  std::shared_ptr<HeldMemory*> self_;  // for who is to come back to this loop first
};

}  // namespace postrider::smtpd
