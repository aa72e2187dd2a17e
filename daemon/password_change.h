// `postrider passwd`: the password file, changed as a whole or not at all.
#pragma once

#include "base/result.h"
#include "daemon/daemon.h"

#include <optional>
#include <string>

namespace postrider::daemon {

struct PasswordChange {
  std::string file;  // empty: auth.users of the configuration
  std::string user;
  std::optional<std::string> password;  // nothing: the user is taken out
  bool has_scram = true;                // also keys for SCRAM-SHA-256
};

// Checks all but the password, before anybody is asked for it: gives the file's path.
Result<std::string> password_file(const Options& options, const PasswordChange& change);
// Under a lock, so that two at a time lose nothing. A new file belongs to root and the daemon's
// group with mode 0640; an old one keeps its owner and mode. Errc::not_found: no such user.
Result<void> change_password(const Options& options, const PasswordChange& change);

}  // namespace postrider::daemon
