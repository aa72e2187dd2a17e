// Who counts the mail of this machine's users that comes over loopback or a Unix socket, beside
// what the same user sends by sendmail (pure).
#pragma once

#include <cstdint>
#include <string>

namespace postrider::smtpd {

// Thread-safe.
class LocalCounter {
 public:
  virtual ~LocalCounter() = default;
  // Count one more of this user's, as auth::Authenticator does.
  virtual std::string begin_message(std::uint32_t uid) = 0;
  virtual std::string add_recipient(std::uint32_t uid) = 0;
};

}  // namespace postrider::smtpd
