// What a local delivery rests on: the configuration, a user's .forward, or a table of the
// administrator. Whoever carries it out with rights of the user's reads the source again and does
// what stands there, whatever he was told: these are the questions and their answers. The same
// functions make the deliveries in the first place.
#pragma once

#include "delivery/local/addresses/local_addresses.h"
#include "delivery/local/addresses/resolved_recipient.h"
#include "delivery/local/agents/local_target.h"
#include "delivery/local/agents/mailbox_pattern.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// Of the configuration; no tables.
struct SourceRules {
  std::string mailbox;  // the pattern of local.mailbox
  std::string hostname;
  std::string separator = "+";
  std::string forward = ".forward";
  std::string command_user = "nobody";
  std::vector<std::string> command_users;  // accounts below minimum_uid, for what their lists say
  std::uint32_t minimum_uid = 1000;
  std::string own_user;  // the daemon's
};

// What stands in the pattern of a mailbox for an address; {user} of its own name.
MailboxNames names_of(const SourceRules& rules, const std::string& address);
// ".forward+tag" for ann+tag, if the tag can be a part of a name; then ".forward". The first that
// exists counts.
std::vector<std::string> forward_names(const SourceRules& rules, const std::string& address);
// Where a leaf's mail goes: kind, place or arguments. Not by whom.
Result<LocalTarget> target_of(const SourceRules& rules, const ResolvedRecipient& leaf,
                              MailboxNames names);
// By whom: the leaf's user; the daemon's own user ("") for the mailbox of a name without an account
// of its own or with one below minimum_uid; and for a command, or a file of a list, then
// command_user, unless command_users names the leaf's: it reads the whole queue, so what others
// wrote never has its rights. Looks at the user database: blocks.
Result<std::string> acting_for(const SourceRules& rules, const ResolvedRecipient& leaf,
                               LocalTarget::Kind kind);

// Same kind and place, same command; users and limits apart.
bool is_same_place(const LocalTarget& one, const LocalTarget& other);

// Whether local.mailbox sends mail of job.name there, as job.target.user.
Result<void> check_mailbox(const SourceRules& rules, const LocalJob& job);
// Whether the text of the user's .forward holds that command or file, for job.target.user.
Result<void> check_forward(const SourceRules& rules, const LocalJob& job, const std::string& user,
                           std::string_view text);
// Whether the tables hold that command, file or mailbox for the address itself, and for that user.
// Reads them: blocks.
Result<void> check_tables(const SourceRules& rules, const LocalAddresses& book,
                          const LocalJob& job);

}  // namespace postrider::delivery
