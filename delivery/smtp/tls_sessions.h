// What one loop remembers of TLS with other hosts.
//
// Sessions to resume, by host and demand: what one policy has made, no other may use. Each is given
// out once (RFC 8446 §C.4); those of servers that hand out none cost nothing.
//
// Hosts with which TLS breaks while mail gets through in clear: for an hour those whom TLS is a
// wish only do not try it there again. So are hosts that are lost behind the content of a message
// under TLS twice within an hour, and no message got through in between.
#pragma once

#include "base/net/tls/tls.h"
#include "base/time.h"
#include "delivery/tls/tls_policy.h"

#include <optional>
#include <string>
#include <unordered_map>

namespace postrider::delivery {

class TlsSessions {
 public:
  TlsSession take(const std::string& key) {
    const auto found = sessions_.find(key);
    if (found == sessions_.end())
      return {};
    auto session = std::move(found->second);
    sessions_.erase(found);
    return session;
  }
  void keep(const std::string& key, TlsSession session) {
    if (!session)
      return;
    if (sessions_.size() >= kMost)
      sessions_.clear();  // only a full handshake each is lost
    sessions_[key] = std::move(session);
  }

  std::optional<TlsAttempt> broken(const std::string& remote, SteadyTime now) const {
    const auto found = broken_.find(remote);
    if (found == broken_.end() || found->second.until <= now)
      return std::nullopt;
    return found->second.attempt;
  }
  void note_broken(const std::string& remote, TlsAttempt attempt, SteadyTime now) {
    if (broken_.size() >= kMost)
      broken_.clear();  // only a try each is lost
    broken_[remote] = {std::move(attempt), now + std::chrono::hours(1)};
  }
  void note_lost(const std::string& remote, TlsAttempt attempt, SteadyTime now) {
    if (lost_.size() >= kMost)
      lost_.clear();
    const auto before = lost_.find(remote);
    if (before == lost_.end() || before->second <= now) {
      lost_[remote] = now + std::chrono::hours(1);
      return;
    }
    lost_.erase(before);
    note_broken(remote, std::move(attempt), now);
  }
  void note_through(const std::string& remote) {
    if (!lost_.empty())
      lost_.erase(remote);
  }

 private:
  struct Broken {
    TlsAttempt attempt;
    SteadyTime until;
  };
  static constexpr std::size_t kMost = 1000;
  std::unordered_map<std::string, Broken> broken_;
  std::unordered_map<std::string, SteadyTime> lost_;  // once, until then
  std::unordered_map<std::string, TlsSession> sessions_;
};

}  // namespace postrider::delivery
