// TLS sessions to resume, by host and demand: what one policy has made, no other may use. Of one
// loop. Each is given out once (RFC 8446 §C.4); those of servers that hand out none cost nothing.
#pragma once

#include "base/tls.h"

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

 private:
  static constexpr std::size_t kMost = 1000;
  std::unordered_map<std::string, TlsSession> sessions_;
};

}  // namespace postrider::delivery
