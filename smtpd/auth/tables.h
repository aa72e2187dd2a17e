// For smtpd/auth/service*.cc: settings with the files they name, read. Immutable.
#pragma once

#include "base/net/tls/tls_context.h"
#include "smtpd/auth/auth_service.h"
#include "smtpd/auth/auth_settings.h"
#include "smtpd/auth/bearer_token.h"
#include "smtpd/auth/passwords.h"
#include "smtpd/auth/sender_map.h"

#include <memory>
#include <string>
#include <unordered_map>

namespace postrider::smtpd::auth {

class AuthService::Tables {
 public:
  AuthSettings settings;
  SenderMap senders;
  std::unordered_map<std::string, std::string> certificates;  // fingerprint to user
  TokenKeys keys;
  std::shared_ptr<const TlsContext> tls;  // for introspection over https; else null
  std::shared_ptr<Passwords> passwords;   // null: no password file

  bool has_passwords() const {
    return passwords || !settings.dovecot.empty() || !settings.pam.empty();
  }
};

// All of them, whatever is wrong with one.
std::vector<FileProblem> read_files(const AuthSettings& settings, AuthService::Tables& tables);
// "<64 hex digits, colons allowed> user" a line.
Result<std::unordered_map<std::string, std::string>> parse_certificates(std::string_view text);

}  // namespace postrider::smtpd::auth
