// With whose rights mail of a name is delivered.
#pragma once

#include "base/result.h"

#include <string>
#include <sys/types.h>

namespace postrider::delivery {

// The login name to act as for this user: itself, if the account exists and its uid is at least
// `minimum`; otherwise empty: names without an account, root, nobody (65534), and the system's own
// accounts. Who stands in then, acting_for() says (delivery/local/addresses/alias_source.h). Looks
// at the user database: blocks.
Result<std::string> acting_user(const std::string& user, uid_t minimum);

// Whether there is an account of that name at all. Looks at the user database: blocks.
Result<bool> has_account(const std::string& user);

// The account that this process acts as; "nobody" and "/" where it has none.
struct Home {
  std::string user = "nobody";
  std::string folder = "/";
};
Home home_of_this_user();

}  // namespace postrider::delivery
