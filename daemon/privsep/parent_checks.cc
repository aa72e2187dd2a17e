#include "daemon/privsep/parent_checks.h"

#include "base/text.h"
#include "base/user_mounts.h"
#include "daemon/config/values.h"
#include "delivery/local/agents/mailbox_pattern.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <sys/stat.h>

namespace postrider::daemon {

namespace {

constexpr uid_t kNobody = 65534;

bool ends(const auto& text) {
  return std::find(text.begin(), text.end(), '\0') != text.end();
}

bool holds(const std::vector<std::string>& users, const std::string& user) {
  return std::find(users.begin(), users.end(), user) != users.end();
}

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '+' || c == '=' || c == '@';
  });
}

bool same_address(const std::string& configured, const sockaddr_storage& asked) {
  const auto colon = configured.rfind(':');
  const auto port = parse_unsigned(std::string_view(configured).substr(colon + 1));
  auto host = configured.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  in_addr v4{};
  in6_addr v6{};
  if (asked.ss_family == AF_INET && ::inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    sockaddr_in in{};
    std::memcpy(&in, &asked, sizeof in);
    return port == ntohs(in.sin_port) && in.sin_addr.s_addr == v4.s_addr;
  }
  if (asked.ss_family == AF_INET6 && ::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    sockaddr_in6 in{};
    std::memcpy(&in, &asked, sizeof in);
    return port == ntohs(in.sin6_port) && std::memcmp(&in.sin6_addr, &v6, sizeof v6) == 0;
  }
  return false;
}

}  // namespace

ParentRules parent_rules(const Config& config, std::string config_file) {
  ParentRules rules;
  rules.config_file = std::move(config_file);
  rules.minimum_uid = static_cast<uid_t>(config.local.minimum_uid);
  rules.alias_user = config.local.alias_user;
  rules.users = config.local.users;
  rules.command_users = config.local.command_users;
  rules.forward = config.local.forward;
  if (auto place = delivery::mailbox_place(config.local.mailbox, {}))
    rules.mailbox_root = place->root;
  for (const auto& listener : config.listeners)
    for (auto& address : listener_addresses(listener.address))
      rules.listeners.push_back(std::move(address));
  for (const auto& route : config.routes)
    if (!route.credentials.empty())
      rules.credentials.push_back(route.credentials);
  rules.source = {config.local.mailbox,
                  config.hostname,
                  config.local.separator,
                  config.local.forward,
                  config.local.alias_user,
                  config.local.command_users,
                  static_cast<std::uint32_t>(config.local.minimum_uid),
                  {}};
  rules.limits.time = config.local.command_time;
  rules.limits.processes = config.local.command_processes;
  rules.limits.memory = config.local.command_memory;
  rules.limits.mailbox_size = config.local.mbox_size;
  rules.config = std::make_shared<const Config>(config);
  return rules;
}

Result<void> check_form(const ParentRequest& request, std::size_t octets, std::size_t descriptors) {
  const bool is_whole = octets == sizeof request && request.magic == kParentMagic;
  if (!is_whole || descriptors == 0 || descriptors != descriptors_of(request.verb))
    return malformed("no request of this protocol");
  if (!ends(request.user) || !ends(request.name) || request.source > 2)
    return malformed("a request with a text that does not end");
  return {};
}

Result<Account> check_user(const ParentRules& rules, const std::string& user, bool delivers) {
  if (user.empty() || !rules.may_become_users)
    return rules.own;
  if (!is_name(user))
    return Error(Errc::refused, "act as a user of that name");
  const bool is_named = delivers && holds(rules.command_users, user);
  if (!is_named && !rules.users.empty() && !holds(rules.users, user))
    return Error(Errc::refused, "act as " + user + " (local.users does not name it)");
  auto account = find_account(user);
  if (!account)
    return account.error();
  if (account->uid == 0 || account->gid == 0)
    return Error(Errc::refused, "act as " + user + " (root never is)");
  if (account->uid < rules.minimum_uid && !is_named)
    return Error(Errc::refused, "act as " + user + " (local.minimum_uid is above it)");
  if (account->uid == kNobody && user != rules.alias_user)
    return Error(Errc::refused, "act as " + user + " (files of many strangers are that user's)");
  return account;
}

Result<void> check_forward_name(const ParentRules& rules, const std::string& name) {
  const auto rest = std::string_view(name).substr(std::min(name.size(), rules.forward.size()));
  const bool is_forward = !rules.forward.empty() && name.starts_with(rules.forward);
  const bool has_extension =
      !rest.empty() && rules.source.separator.find(rest.front()) != std::string::npos;
  if (!is_forward || !(rest.empty() || (has_extension && is_name(rest.substr(1)))))
    return Error(Errc::refused, "read a file of that name");
  return {};
}

Result<void> check_address(const ParentRules& rules, const sockaddr_storage& address,
                           std::size_t size) {
  const std::size_t wanted =
      address.ss_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  const bool is_listed =
      size == wanted && std::any_of(rules.listeners.begin(), rules.listeners.end(),
                                    [&](const auto& one) { return same_address(one, address); });
  if (!is_listed)
    return Error(Errc::refused, "bind to an address that no [[listener]] names");
  return {};
}

Result<void> check_credentials_name(const ParentRules& rules, const std::string& path) {
  if (std::find(rules.credentials.begin(), rules.credentials.end(), path) ==
      rules.credentials.end())
    return Error(Errc::refused, "run the command of a file that no route.credentials names");
  return {};
}

gid_t mailbox_group(const ParentRules& rules) {
  struct stat about {};
  if (rules.mailbox_root.empty() || !look_at(rules.mailbox_root, about))
    return 0;
  const bool is_shared =
      S_ISDIR(about.st_mode) && about.st_uid == 0 && (about.st_mode & S_IWGRP) != 0;
  return is_shared ? about.st_gid : 0;
}

}  // namespace postrider::daemon
