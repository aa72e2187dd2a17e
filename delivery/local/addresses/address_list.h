// What stands behind the colon of an alias, in a .forward, in an included file and in the tables of
// virtual users: places where mail goes, separated by commas. Pure.
//
//   ann                     a user or an alias of this machine
//   \ann                    the same, but its own aliases are not looked at
//   ann@example.org         any address; Ann <ann@example.org> too
//   "john q"@example.org    quoted as RFC 5321 has it; "john q" alone is a local name
//   |/usr/bin/prog arg      a command. With a comma in it: "|/usr/bin/prog 'a, b'"
//   /var/mail/archive       a file in mbox form; with a slash at its end a maildir. /dev/null: away
//   :include:/etc/list      what is in that file, one list a line
//   maildir:/p  mbox:/p  lmtp:... command:...   a mailbox, in tables of virtual users alone
//   (words)                 a comment
//
// Commands are split into an argument vector by split_command()
// (delivery/local/agents/local_target.h): no shell.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct ListItem {
  enum class Kind : std::uint8_t { address, include, command, file, mailbox };
  Kind kind = Kind::address;
  std::string text;      // the address, the path, the command, the mailbox
  bool literal = false;  // of "\ann"
  friend bool operator==(const ListItem&, const ListItem&) = default;
};

// Where a list stands says what it may hold; the mailbox forms are for virtual users.
struct ListRules {
  bool commands = true;  // and files
  bool includes = true;
  bool mailboxes = false;
  std::size_t most = 100'000;  // items
};

// In the order in which they stand. The error's text says what is wrong, without a place.
Result<std::vector<ListItem>> parse_list(std::string_view text, const ListRules& rules);
// The same for a file of lists: "#" begins a comment line, each line is a list of its own. Lines
// that are wrong are reported and passed over. A byte order mark at its start is not a part of it.
struct ListedItem {
  ListItem item;
  std::size_t line = 0;
};
struct ListFile {
  std::vector<ListedItem> items;
  std::vector<std::string> problems;  // "3: a comma is missing"
};
ListFile parse_list_file(std::string_view text, const ListRules& rules);

// For tables::Options::check: empty, or what is wrong.
std::string check_alias_value(std::string_view value);
std::string check_alias_name(std::string_view name);
std::string check_virtual_value(std::string_view value);

}  // namespace postrider::delivery
