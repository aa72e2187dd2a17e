// What the privileged parent allows. Strict, and small enough to be read before it is trusted.
#pragma once

#include "base/result.h"
#include "daemon/config/config.h"
#include "daemon/privsep/parent_protocol.h"
#include "daemon/privsep/privileges.h"
#include "delivery/local/addresses/alias_source.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

// For one question. trouble: of a table that is not root's and was passed over, for it could not be
// read: then what no other table says is not decided.
struct OpenedBook {
  std::shared_ptr<const delivery::LocalAddresses> book;
  std::shared_ptr<const std::optional<Error>> trouble;
};

struct ParentRules {
  std::string config_file;
  Account own;                    // the daemon's user
  bool may_become_users = false;  // else everything is done as who we are
  uid_t minimum_uid = 1000;
  std::string alias_user;                  // also if it is nobody: root named it
  std::vector<std::string> users;          // if not empty, only these
  std::vector<std::string> command_users;  // below minimum_uid all the same, for what they run
  std::string forward;                     // ".forward"; empty: none
  std::string mailbox_root;                // "/var/mail"; empty: no such folder
  std::vector<std::string> listeners;
  std::vector<std::string> credentials;  // files whose token_command may be run
  delivery::SourceRules source;          // by which a child looks at what it was told to do
  delivery::TargetLimits limits;
  // Where virtual and alias tables are, and how to open them; may be null.
  std::shared_ptr<const Config> config;
  std::function<Result<OpenedBook>(const Config&)> open_book;
  // Whether a table of it is asked over a socket.
  std::function<bool(const Config&)> asks_servers;
};
ParentRules parent_rules(const Config& config, std::string config_file);

// Whole, of this protocol, with as many descriptors as its verb brings, and texts that end.
Result<void> check_form(const ParentRequest& request, std::size_t octets, std::size_t descriptors);
// Whom to become: never root, only whom the configuration allows; nobody (65534) only as
// local.alias_user. delivers: what lists name; local.command_users counts too.
Result<Account> check_user(const ParentRules& rules, const std::string& user,
                           bool delivers = false);
// local.forward, or that, a separator of local.separator, and letters, digits and some marks; never
// a slash.
Result<void> check_forward_name(const ParentRules& rules, const std::string& name);
// The address of a listener of the configuration, and no other.
Result<void> check_address(const ParentRules& rules, const sockaddr_storage& address,
                           std::size_t size);
// The credentials file of a route of the configuration, and no other.
Result<void> check_credentials_name(const ParentRules& rules, const std::string& path);
// The group of the mailboxes' folder, if root owns it and that group may write to it; 0: none.
gid_t mailbox_group(const ParentRules& rules);

}  // namespace postrider::daemon
