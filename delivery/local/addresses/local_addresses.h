// The addresses of this machine: local and virtual domains, aliases, virtual users, the catch-all.
// What receiving asks at RCPT ("does it exist?") and what the expansion at delivery follows are the
// same lookups. Immutable; a reload of the configuration makes a new one, and a changed file is
// followed by its table.
//
// Local domains (local.domains): virtual users, then aliases, then users, then the catch-all.
// Virtual domains (a key "example.org" in a table of virtual users): virtual users alone.
// Addresses that were made of the senders of forwarded mail come before all that, in their domain.
#pragma once

#include "base/result.h"
#include "delivery/local/addresses/forwarded_sender.h"
#include "mail/directory.h"
#include "tables/table.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

using TablePtr = std::shared_ptr<const tables::Table>;

struct AddressRules {
  std::vector<std::string> domains;   // local ones: lower case, A-labels
  std::vector<std::string> literals;  // of this machine's addresses: "[192.0.2.1]"
  std::string hostname;              // the domain of names without one, if there is no local domain
  std::vector<TablePtr> aliases;     // keys are names
  std::vector<TablePtr> virtuals;    // keys are addresses, "@domain" and "domain"
  std::string separator = "+";       // each octet of it ends a name: "ann+tag"; empty: none does
  std::string forward = ".forward";  // name in the home folder; empty: none is read
  std::string catch_all;             // address or name for unknown users of local domains; or empty
  std::string command_user = "nobody";     // for commands and files of aliases files that root owns
  std::vector<std::string> command_users;  // system accounts that have commands of their own
  std::size_t most_recipients = 10'000;    // of one expansion
  unsigned most_steps = 20;                // from an address to where its mail ends
  std::shared_ptr<const SenderRewriter> rewriter;  // of forwarded mail; null: senders stay
};

// A local part taken apart: "ann+tag" is the name ann with the extension tag.
struct LocalName {
  std::string name;       // as given
  std::string extension;  // without the separator
  char separator = '\0';
};

// separator: AddressRules::separator. "+tag", "owner-list" and "list-request" are whole names.
LocalName split_name(std::string_view local_part, std::string_view separator);

class LocalAddresses {
 public:
  explicit LocalAddresses(AddressRules rules);

  const AddressRules& rules() const { return rules_; }
  // Lower case, A-labels; local, virtual, or that of rewritten senders. A virtual domain that
  // cannot be looked up now counts.
  bool is_ours(std::string_view domain) const;
  bool is_local(std::string_view domain) const;
  // That of an address literal of this machine is home() (RFC 1123 §5.2.17); others stay.
  std::string_view meant(std::string_view domain) const;
  // The domain that names without one belong to.
  const std::string& home() const { return home_; }
  LocalName split(std::string_view local_part) const;

  struct Match {
    tables::Entry entry;
    std::string key;    // what was found: "ann", "ann@example.org", "@example.org"
    bool whole = true;  // the extension is a part of the key, or there is none
  };
  using Found = Result<std::optional<Match>>;
  // local_part: without quotes. With the extension first, then without.
  Found find_alias(std::string_view local_part) const;
  Found find_virtual(std::string_view local_part, std::string_view domain) const;
  // The value of "owner-NAME" is not followed; only whether it is there.
  Result<bool> has_owner(const std::string& name) const;

  // Whether the tables know the address; users are not asked. unknown: they are to be asked, if
  // the domain is local.
  mail::Directory::Answer knows(std::string_view local_part, std::string_view domain) const;

 private:
  Found find_in(const std::vector<TablePtr>& tables, const std::string& key, bool is_whole) const;

  AddressRules rules_;
  std::string home_;
};

}  // namespace postrider::delivery
