// Where an expansion ended for one recipient: more than an address says, for whoever delivers it
// later. Kept in the queue with the recipient (mail::Recipient::leaf). Pure.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct ResolvedRecipient {
  enum class Kind : std::uint8_t {
    address,  // nothing more: an address of another machine, or one that is looked at again
    user,     // the user's .forward, then the mailbox; aliases have been looked at
    self,     // as address, for an alias that lists its own name: not expanded again
    mailbox,  // the user's mailbox
    command,  // text: a command for split_command(), with the rights of user
    file,     // text: an absolute path; a maildir if it ends with a slash, else mbox
    place,    // text: a mailbox of a virtual user, "maildir:/path"; user may be empty: our own
    nobody,   // a name in an included list that is none: the list's address bounces
    include,  // text: encode(SetAside), an included file that could not be used with the others
  };
  Kind kind = Kind::address;
  std::string user;
  std::string text;
  friend bool operator==(const ResolvedRecipient&, const ResolvedRecipient&) = default;
};

// A list that an alias includes and that could not be used when the others of the alias had their
// mail: it is followed by itself, later.
struct SetAside {
  std::uint32_t author = 0;  // the user who wrote its name
  std::vector<std::uint64_t>
      others;  // marks of those who had the mail: not again, if they are in it
  std::string path;
};
std::string encode(const SetAside& aside);
Result<SetAside> decode_set_aside(std::string_view text);  // Errc::corrupt

// Stored in the queue. "user:ann", "command:ann:/usr/bin/prog x"; empty for address.
std::string encode(const ResolvedRecipient& leaf);
// Our own database counts as hostile: Errc::corrupt for anything else.
Result<ResolvedRecipient> decode_leaf(std::string_view text);
// "mailbox of ann", "command /usr/bin/prog x as ann"; raw.
std::string describe(const ResolvedRecipient& leaf);

}  // namespace postrider::delivery
