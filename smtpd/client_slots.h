// What one session has of its client's share of all sessions (SessionLimits), and gives back at its
// end: by address for strangers, by user for this machine's own.
#pragma once

#include "smtpd/session/policy.h"
#include "smtpd/session_limits.h"

#include <cstdint>
#include <optional>

namespace postrider::smtpd {

class ClientSlots {
 public:
  // in_all: outlives it.
  explicit ClientSlots(SessionLimits& in_all) : in_all_(in_all) {}
  ~ClientSlots();
  ClientSlots(const ClientSlots&) = delete;
  ClientSlots& operator=(const ClientSlots&) = delete;

  // Once. most: how many sessions there may be. False: the client has its share already.
  bool take(const Client& client, const Limits& limits, std::uint32_t most);

 private:
  SessionLimits& in_all_;
  std::optional<IpAddress> address_;
  std::optional<std::uint64_t> user_;  // of this machine
};

}  // namespace postrider::smtpd
