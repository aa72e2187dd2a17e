// What an address of this machine stands for: aliases, included files and virtual users followed to
// where they end. Reads tables and included files: blocks, for the pool.
//
// Each address is followed once and at most AddressRules::most_steps deep, so every loop ends. What
// the tables say is found complete or not at all: one that cannot be read now fails the whole,
// which is tried again later, so nobody is sent a message twice for it. An included file is its
// owner's, who must not hold the others' mail: one that cannot be used now (or is too much) is set
// aside as a recipient of its own (ResolvedRecipient::Kind::include), and followed later by
// expand_set_aside().
//
// A .forward is another expansion, of the user that is reached: see expand_forward().
#pragma once

#include "delivery/local/addresses/local_addresses.h"
#include "delivery/local/addresses/resolved_recipient.h"
#include "mail/outcome.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct ExpandedRecipient {
  std::string address;
  ResolvedRecipient leaf;
  std::string owner;  // the new envelope sender, "owner-list@example.org"; empty: the old one stays
  std::string sender{};  // the old one as it goes on, if that is not as it came: rewrite_senders()
  bool is_unknown = false;  // no user of this machine: its bounce says so
};

struct ExpansionStep {
  std::string from;
  std::string to;
  std::string where;  // "/etc/aliases:12"
};

// What is wrong with an included file.
struct ListProblem {
  std::string path;
  std::string text;
  bool is_unusable = false;  // as a whole: mail waits
};

struct Expansion {
  std::vector<ExpandedRecipient> recipients;
  std::vector<ExpansionStep> steps;
  std::vector<std::string> problems;  // for the log: what was refused, with its place
  std::vector<std::string>
      unknown;  // members who are nobody, those that senders are not told as well
  std::vector<ListProblem> list_problems;
  std::size_t discarded = 0;             // members whose mail is thrown away: /dev/null
  std::size_t repeated = 0;              // members who had the mail before their list was set aside
  bool is_list = false;                  // an owner- alias took over on the way
  std::optional<mail::Outcome> failure;  // then there are no recipients

  // The address itself is where the mail goes.
  bool is_plain() const { return steps.empty() && !failure; }
};

// Whether a name is a user of this machine: mail::Directory without the address book.
class Users {
 public:
  virtual ~Users() = default;
  virtual mail::Directory::Answer find_user(const std::string& user,
                                            std::string_view domain) const = 0;
};

// address: of a domain of ours, or a name. For another domain's address the result is plain. seen:
// when an address that was made of a sender had to be valid.
Expansion expand(const LocalAddresses& book, const Users& users, std::string_view address,
                 SenderRewriter::Seen seen = SenderRewriter::Seen::now);

// What an included file stands for that was set aside when this address was expanded.
Expansion expand_set_aside(const LocalAddresses& book, const Users& users, std::string_view address,
                           const SetAside& aside);

// What the tables say of the address itself; the addresses in there are not followed, nor is
// anybody looked up.
Expansion expand_once(const LocalAddresses& book, std::string_view address);

// Whether mail for an address that is an alias can arrive anywhere: `circle` if it comes back to
// itself alone, `unknown` if it goes to nobody but unknown users of this machine. Looks at few members and at no included
// file: where there is more, it is known. For RCPT, so that nobody must be sent a bounce.
mail::Directory::Answer look_ahead(const LocalAddresses& book, const Users& users,
                                   std::string_view address);

// What a user's .forward says. The user's own name in it stands for the mailbox; commands and files
// have the user's rights; nothing is included. Lines that are wrong are reported in `problems`; if
// nothing is left, the mail goes to the mailbox. where: the file, for the steps.
Expansion expand_forward(const LocalAddresses& book, const Users& users, const std::string& user,
                         std::string_view address, std::string_view text, const std::string& where);

}  // namespace postrider::delivery
