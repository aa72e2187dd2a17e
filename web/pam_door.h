// The socket at which the daemon's postrider-pam judges users of this system for postrider-web (and
// answers nobody else): cli/pam_helper.cc has the other side. A connection is one question: the
// user, the password and the client with NULs between them; its answer begins with a letter: 'r' or
// 'c' is what the user may, 'n' that it is refused, anything else that it cannot be told.
#pragma once

#include "web/tokens.h"

#include "base/result.h"

#include <string>

namespace postrider::web {

// Blocks for half a minute at most.
Result<Role> ask_pam(const std::string& socket, const std::string& user,
                     const std::string& password, const std::string& client);

}  // namespace postrider::web
