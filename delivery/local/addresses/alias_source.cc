#include "delivery/local/addresses/alias_source.h"

#include "base/text.h"
#include "delivery/local/addresses/address_list.h"
#include "delivery/local/addresses/expander.h"
#include "delivery/local/agents/account.h"
#include "mail/address.h"
#include "mail/envelope.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

std::string unquoted(const std::string& address) {
  return mail::unquoted_local_part(mail::local_part_of(address));
}

Error not_there(const LocalJob& job, const char* where) {
  return Error(Errc::refused, "deliver to " + escaped(job.target.describe()) + " (" + where +
                                  " does not say that for " + escaped(job.envelope.delivered_to) +
                                  ")");
}

bool is_of_list(const ResolvedRecipient& leaf) {
  return leaf.kind == ResolvedRecipient::Kind::command ||
         leaf.kind == ResolvedRecipient::Kind::file;
}

bool is_named_in(const std::vector<std::string>& users, const std::string& user) {
  return std::find(users.begin(), users.end(), user) != users.end();
}

}  // namespace

MailboxNames names_of(const SourceRules& rules, const std::string& address) {
  auto domain = mail::domain_of(address);
  return mailbox_names(unquoted(address), domain.empty() ? rules.hostname : domain,
                       rules.separator);
}

std::vector<std::string> forward_names(const SourceRules& rules, const std::string& address) {
  if (rules.forward.empty())
    return {};
  const auto name = split_name(unquoted(address), rules.separator);
  if (name.extension.empty() || path_component(name.extension) != name.extension)
    return {rules.forward};
  return {rules.forward + name.separator + ascii_lower(name.extension), rules.forward};
}

Result<LocalTarget> target_of(const SourceRules& rules, const ResolvedRecipient& leaf,
                              MailboxNames names) {
  LocalTarget target;
  switch (leaf.kind) {
    case ResolvedRecipient::Kind::command: {
      auto arguments = split_command(leaf.text);
      if (!arguments)
        return arguments.error();
      target.kind = LocalTarget::Kind::command;
      target.arguments = std::move(*arguments);
      return target;
    }
    case ResolvedRecipient::Kind::file:
      target.kind = leaf.text.ends_with('/') ? LocalTarget::Kind::maildir : LocalTarget::Kind::mbox;
      target.place = leaf.text.substr(0, leaf.text.find_last_not_of('/') + 1);
      return target;
    case ResolvedRecipient::Kind::place:
      return mailbox_target(leaf.text, names);
    case ResolvedRecipient::Kind::nobody:
    case ResolvedRecipient::Kind::include:
      return Error(Errc::refused, "deliver to " + describe(leaf));
    default:
      // Another's address, as by an alias, gives no part of the place but its domain: whose the
      // mailbox is decides where it is.
      if (names.user != leaf.user) {
        names.local = leaf.user;
        names.extension.clear();
      }
      names.user = leaf.user;
      return mailbox_target(rules.mailbox, names);
  }
}

Result<std::string> acting_for(const SourceRules& rules, const ResolvedRecipient& leaf,
                               LocalTarget::Kind kind) {
  const bool is_of_others = kind == LocalTarget::Kind::command || is_of_list(leaf);
  const bool is_named = is_of_others && is_named_in(rules.command_users, leaf.user);
  auto user = leaf.user.empty() ? Result<std::string>(std::string())
                                : acting_user(leaf.user, is_named ? 1 : rules.minimum_uid);
  if (!user || !is_of_others || (!user->empty() && *user != rules.own_user))
    return user;
  return rules.command_user;
}

bool is_same_place(const LocalTarget& one, const LocalTarget& other) {
  return one.kind == other.kind && one.root == other.root && one.place == other.place &&
         one.arguments == other.arguments;
}

namespace {

// Whether this leaf is what the job does, as the one it does it as.
Result<bool> is_that(const SourceRules& rules, const LocalJob& job, const ResolvedRecipient& leaf) {
  const auto target = target_of(rules, leaf, names_of(rules, job.envelope.delivered_to));
  if (!target || target->kind == LocalTarget::Kind::lmtp || !is_same_place(*target, job.target))
    return false;
  const auto user = acting_for(rules, leaf, target->kind);
  if (!user)
    return user.error();
  return *user == job.target.user;
}

}  // namespace

Result<void> check_mailbox(const SourceRules& rules, const LocalJob& job) {
  const bool is_name = !job.name.empty() && local_user(job.name, "") == job.name;
  const auto same = is_name ? is_that(rules, job, {ResolvedRecipient::Kind::mailbox, job.name, {}})
                            : Result<bool>(false);
  if (!same)
    return same.error();
  if (!*same)
    return not_there(job, "local.mailbox");
  return {};
}

Result<void> check_forward(const SourceRules& rules, const LocalJob& job, const std::string& user,
                           std::string_view text) {
  ListRules list;
  list.includes = false;
  for (const auto& one : parse_list_file(text, list).items) {
    const auto kind = one.item.kind;
    if (kind != ListItem::Kind::command && kind != ListItem::Kind::file)
      continue;
    const ResolvedRecipient leaf{kind == ListItem::Kind::command ? ResolvedRecipient::Kind::command
                                                                 : ResolvedRecipient::Kind::file,
                                 user, one.item.text};
    const auto same = is_that(rules, job, leaf);
    if (!same)
      return same.error();
    if (*same)
      return {};
  }
  return not_there(job, "its .forward");
}

Result<void> check_tables(const SourceRules& rules, const LocalAddresses& book,
                          const LocalJob& job) {
  const auto entries = expand_once(book, job.envelope.delivered_to);
  if (entries.failure && entries.failure->verdict == mail::Verdict::bounce)
    return not_there(job, "no table");
  if (entries.failure)
    return Error(
        boost::system::errc::make_error_code(boost::system::errc::resource_unavailable_try_again),
        entries.failure->text);
  for (const auto& entry : entries.recipients) {
    const bool is_place =
        entry.leaf.kind == ResolvedRecipient::Kind::place || is_of_list(entry.leaf);
    const auto same = is_place ? is_that(rules, job, entry.leaf) : Result<bool>(false);
    if (!same)
      return same.error();
    if (*same)
      return {};
  }
  return not_there(job, "no table");
}

}  // namespace postrider::delivery
