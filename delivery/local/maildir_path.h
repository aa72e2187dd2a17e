// Where a user's mailbox is: the pattern of local.mailbox with "{user}" and "{domain}" filled in by
// names that can never leave their place (attacks.md I01). Pure.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

// The user that a local part (without quotes) stands for: lower case, without "+tag". Empty if it
// can never be one: empty, a leading dash or dot, controls, longer than 64 octets.
std::string local_user(std::string_view local_part);

// One path component for any text: letters, digits, "-", "_", "." (not first) and "@" stand for
// themselves, all else is percent-encoded.
std::string path_component(std::string_view text);

struct MailboxPlace {
  std::string root;    // the part of the path that must exist or be ours to make: before "{"
  std::string folder;  // the mailbox below the root, relative, without trailing slash
};
// pattern: "maildir:/var/mail/{user}/". Errc::unsupported for another scheme.
Result<MailboxPlace> mailbox_place(std::string_view pattern, std::string_view user,
                                   std::string_view domain);

}  // namespace postrider::delivery
