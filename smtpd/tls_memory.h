// What one session keeps in memory of TLS: the share of all sessions that are under it, in the books of SessionLimits,
// and what it has of an unfinished handshake or record, in those of UnfinishedTls. Lives on the session's loop; the
// books call it from any thread.
#pragma once

#include "smtpd/loop_connections.h"
#include "smtpd/unfinished_tls.h"

#include <cstddef>
#include <functional>
#include <memory>

namespace postrider::smtpd {

class TlsMemory final : private UnfinishedTls::Waiter {
 public:
  // give_way: called on the loop, to end the session if it still waits for its client. connections
  // and limits outlive it.
  TlsMemory(LoopConnections& connections, const Limits& limits, std::function<void()> give_way);
  ~TlsMemory() override;
  TlsMemory(const TlsMemory&) = delete;
  TlsMemory& operator=(const TlsMemory&) = delete;

  // Before a wait for the client, that much is kept. False: the session is to end.
  bool wait_with(std::size_t octets, const Client& client);
  // What was waited for has come.
  void go_on();
  bool waits() const { return octets_ > UnfinishedTls::kFree; }
  // After a handshake, once; until the end. False: the session is to end.
  bool begin_session(const Client& client);

 private:
  void give_way() override;

  LoopConnections& connections_;
  const Limits& limits_;
  const std::function<void()> on_give_way_;
  std::size_t octets_ = 0;
  std::size_t of_session_ = 0;
  SessionLimits::Party party_;        // of the time of its first octets
  std::shared_ptr<TlsMemory*> self_;  // for who is to come back to this loop first
};

}  // namespace postrider::smtpd
