// Who can log in, by what means, and how much they may send. In final types; immutable once given
// to the service (smtpd/auth/auth_service.h).
#pragma once

#include "base/time.h"
#include "smtpd/auth/login_limiter.h"
#include "smtpd/auth/sending_quota.h"

#include <string>
#include <vector>

namespace postrider::smtpd::auth {

struct OauthRules {
  std::string introspect;  // http:// or https:// (RFC 7662); empty: none
  std::string client_id;   // to authenticate there
  std::string client_secret;
  std::string roots;           // PEM file of trusted roots for https; empty: the system's
  std::string keys;            // file of TokenKeys (smtpd/auth/bearer_token.h); empty: none
  std::string issuer;          // must be this, if given
  std::string audience;        // must be or contain this, if given
  std::string scope;           // must be among the scopes, if given
  std::string user = "email";  // the claim that names the user
  bool is_used() const { return !introspect.empty() || !keys.empty(); }
};

struct AuthSettings {
  std::vector<std::string> mechanisms;  // in capitals, in the order in which they are offered
  // Where passwords are: at most one of these.
  std::string users;                 // password file
  std::string dovecot;               // path of its auth socket
  std::string pam;                   // name of a service
  std::string certificates;          // file of fingerprints and users
  std::string senders;               // file (smtpd/auth/sender_map.h)
  std::vector<std::string> domains;  // ours, in lower case
  OauthRules oauth;
  LoginLimiter::Rules tries;
  SendingQuota::Rules limits;
  Duration failure_delay{1000};  // from the question to a refusal, at least
  unsigned hash_threads = 1;
};

}  // namespace postrider::smtpd::auth
