#include "delivery/local/addresses/local_addresses.h"

#include "base/text.h"
#include "delivery/local/addresses/left_out_entries.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::delivery {

using Answer = mail::Directory::Answer;

namespace {

bool lacks_one_of(const std::vector<TablePtr>& tables) {
  return std::any_of(tables.begin(), tables.end(),
                     [](const TablePtr& table) { return table->is_left_out(); });
}

}  // namespace

bool lacks_domains(const LocalAddresses& book) {
  return lacks_one_of(book.rules().virtuals);
}

bool lacks_addresses(const LocalAddresses& book) {
  return lacks_one_of(book.rules().aliases) || lacks_domains(book);
}

LocalAddresses::LocalAddresses(AddressRules rules) : rules_(std::move(rules)) {
  home_ = rules_.domains.empty() ? rules_.hostname : rules_.domains.front();
  if (rules_.domains.empty())
    rules_.literals.clear();  // there is no local mail
  std::sort(rules_.domains.begin(), rules_.domains.end());
}

std::string_view LocalAddresses::meant(std::string_view domain) const {
  const bool is_literal =
      domain.starts_with('[') &&
      std::find(rules_.literals.begin(), rules_.literals.end(), domain) != rules_.literals.end();
  return is_literal ? home_ : domain;
}

bool LocalAddresses::is_local(std::string_view domain) const {
  domain = meant(domain);
  return std::binary_search(rules_.domains.begin(), rules_.domains.end(), domain);
}

bool LocalAddresses::is_ours(std::string_view domain) const {
  if (is_local(domain) || (rules_.rewriter && rules_.rewriter->domain() == domain))
    return true;
  if (rules_.virtuals.empty() || domain.empty())
    return false;
  const auto found = find_in(rules_.virtuals, std::string(domain), false);
  return !found || found->has_value();
}

LocalName split_name(std::string_view local_part, std::string_view separator) {
  const auto at = local_part.find_first_of(separator);
  // "+tag" and "owner-list" are names of their own (attacks.md A19).
  const bool is_name = at == local_part.npos || at == 0 || separator.empty() ||
                       starts_with_ignoring_case(local_part, "owner-") ||
                       ends_with_ignoring_case(local_part, "-request");
  if (is_name)
    return {std::string(local_part), {}, '\0'};
  return {std::string(local_part.substr(0, at)), std::string(local_part.substr(at + 1)),
          local_part[at]};
}

LocalName LocalAddresses::split(std::string_view local_part) const {
  return split_name(local_part, rules_.separator);
}

LocalAddresses::Found LocalAddresses::find_in(const std::vector<TablePtr>& tables,
                                              const std::string& key, bool is_whole) const {
  for (const auto& table : tables) {
    if (table->has_patterns() && !is_whole)
      continue;
    auto entry = table->find(key);
    if (!entry)
      return entry.error();
    if (entry->has_value())
      return std::optional<Match>(Match{**std::move(entry), key, true});
  }
  return std::optional<Match>();
}

LocalAddresses::Found LocalAddresses::find_alias(std::string_view local_part) const {
  auto found = find_in(rules_.aliases, std::string(local_part), true);
  if (!found || found->has_value())
    return found;
  const auto name = split(local_part);
  if (name.separator == '\0')
    return found;
  auto without = find_in(rules_.aliases, name.name, false);
  if (without && without->has_value())
    (**without).whole = false;
  return without;
}

LocalAddresses::Found LocalAddresses::find_virtual(std::string_view local_part,
                                                   std::string_view domain) const {
  if (rules_.virtuals.empty())
    return std::optional<Match>();
  const auto at = "@" + std::string(domain);
  auto found = find_in(rules_.virtuals, mail::quoted_local_part(local_part) + at, true);
  if (!found || found->has_value())
    return found;
  const auto name = split(local_part);
  if (name.separator != '\0') {
    found = find_in(rules_.virtuals, mail::quoted_local_part(name.name) + at, false);
    if (!found || found->has_value()) {
      if (found)
        (**found).whole = false;
      return found;
    }
  }
  return find_in(rules_.virtuals, at, false);
}

Result<bool> LocalAddresses::has_owner(const std::string& name) const {
  const auto found = find_in(rules_.aliases, "owner-" + name, false);
  if (!found)
    return found.error();
  return found->has_value();
}

Answer LocalAddresses::knows(std::string_view local_part, std::string_view domain) const {
  const auto in_virtual = find_virtual(local_part, domain);
  if (!in_virtual)
    return Answer::cannot_tell;
  if (in_virtual->has_value())
    return Answer::known;
  if (!is_local(domain))
    return Answer::unknown;
  const auto alias = find_alias(local_part);
  if (!alias)
    return Answer::cannot_tell;
  return alias->has_value() ? Answer::known : Answer::unknown;
}

}  // namespace postrider::delivery
