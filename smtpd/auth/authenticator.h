// What a session asks about logging in and about what a user may send. The answers come at once;
// what takes time is asked by the connection (smtpd/auth/auth_service.h, which is this gate too).
#pragma once

#include "base/network.h"
#include "smtpd/auth/sasl.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider {
class Loop;
}

namespace postrider::smtpd::auth {

class Exchange;

// What is known of the connection below the session.
struct Channel {
  bool is_private = false;  // TLS, or a listener where AUTH in clear was allowed
  Bindings bindings;        // offered is not filled in
  std::string fingerprint;  // SHA-256 of the client's certificate in hex; empty: none
};

// Who tries to log in, and how.
struct Attempt {
  std::string session;  // its id, for the log
  IpAddress client;
  std::string mechanism;
  Channel channel;
};

// Thread-safe.
class Authenticator {
 public:
  virtual ~Authenticator() = default;
  // Names of mechanisms, in capitals; empty: AUTH is not offered on this channel.
  virtual std::vector<std::string> offered(const Channel& channel) const = 0;
  // name: one of those offered.
  virtual std::unique_ptr<Mechanism> make(std::string_view name, const Channel& channel) const = 0;
  // The way to the answers (smtpd/auth/sasl_exchange.h). loop: the connection's.
  virtual std::unique_ptr<Exchange> begin(Loop& loop, Attempt attempt) = 0;
  // sender: as parse_mail gives it; empty: the null sender.
  virtual bool may_send_as(std::string_view user, std::string_view sender) const = 0;
  // Count one more of this user's. A text says which limit that would exceed, for the reply, and
  // then nothing was counted.
  virtual std::string begin_message(std::string_view user) = 0;
  virtual std::string add_recipient(std::string_view user, std::string_view recipient) = 0;
};

}  // namespace postrider::smtpd::auth
