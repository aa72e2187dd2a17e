// `postrider passwd USER`: sets a user's password in the password file, or takes the user out.
#pragma once

#include "daemon/password_change.h"

namespace postrider::cli {

// Asks twice on a terminal, without echo; else the password is the first line of standard input.
// The exit code is one of sysexits.h.
int change_password(const daemon::Options& options, daemon::PasswordChange change, bool remove);

}  // namespace postrider::cli
