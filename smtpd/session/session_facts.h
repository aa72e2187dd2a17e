// What is known of one session and its client (pure). Session alone writes it; the parts that a
// session is made of read it, and so do connections and the log.
#pragma once

#include "smtpd/auth/authenticator.h"
#include "smtpd/session/policy.h"

#include <memory>
#include <string>

namespace postrider {
struct TlsFacts;
}

namespace postrider::smtpd {

struct SessionFacts {
  std::shared_ptr<const Policy> policy;
  Client client;
  Role role = Role::mx;
  std::string id;                        // in replies that are our fault, and in the log
  std::string helo = {};                 // as given; empty before EHLO
  bool is_extended = false;              // EHLO, not HELO
  bool offers_starttls = false;          // until the handshake
  const TlsFacts* tls = nullptr;         // null: in clear; outlives the session
  bool has_trusted_certificate = false;  // one of those that may relay

  // Null: AUTH is not offered here.
  auth::Authenticator* authenticator() const {
    return role == Role::submission ? policy->settings().auth.get() : nullptr;
  }
  // For how long its mail may be held, which is for first submissions (RFC 4865 §3); 0: it may not.
  Duration future_release() const {
    const bool submits = role == Role::submission || Policy::may_relay(client);
    return submits ? policy->settings().future_release : Duration(0);
  }
};

}  // namespace postrider::smtpd
