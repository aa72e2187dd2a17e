#include "smtpd/session/access.h"

#include "base/quoted.h"
#include "base/text.h"
#include "mail/envelope.h"

#include <algorithm>
#include <array>

namespace postrider::smtpd {

namespace {

constexpr std::size_t kMostText = 200;

struct Key {
  std::string text;
  bool whole;
};

std::vector<Key> keys_of(std::string_view address) {
  if (address.empty())
    return {{"<>", true}};
  const auto domain = mail::domain_of(address);
  const std::string local_part(mail::local_part_of(address));
  std::vector<Key> keys = {{domain.empty() ? local_part : local_part + "@" + domain, true}};
  if (domain.empty())
    return keys;
  keys.push_back({domain, false});
  for (auto dot = domain.find('.'); dot != domain.npos; dot = domain.find('.', dot + 1))
    keys.push_back({domain.substr(dot), false});
  keys.push_back({local_part + "@", false});
  return keys;
}

std::vector<Key> keys_of(const IpAddress& address, const ClientName* name) {
  std::vector<Key> keys = {{address.str(), true}};
  const auto networks = address.is_v4() ? std::array{24U, 16U, 8U} : std::array{64U, 48U, 32U};
  for (const auto bits : networks)
    keys.push_back({address.masked(bits).str() + "/" + std::to_string(bits), false});
  if (name == nullptr || name->status == ClientName::Status::unknown)
    return keys;
  if (name->status != ClientName::Status::confirmed) {
    keys.push_back({"unknown", true});
    return keys;
  }
  keys.push_back({name->name, true});
  for (auto dot = name->name.find('.'); dot != name->name.npos; dot = name->name.find('.', dot + 1))
    keys.push_back({name->name.substr(dot), false});
  return keys;
}

// What an administrator wrote goes to a client: one line that breaks nothing.
std::string harmless(std::string_view text) {
  std::string out(trim(text).substr(0, kMostText));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e)
      c = '?';
  return out;
}

Access meaning_of(const tables::Entry& entry) {
  const auto text = trim(entry.value);
  const auto space = text.find_first_of(" \t");
  const auto word = text.substr(0, space);
  const auto rest = space == text.npos ? std::string() : harmless(text.substr(space));
  if (equals_ignoring_case(word, "reject"))
    return {Access::Kind::reject, rest, entry.where};
  if (equals_ignoring_case(word, "defer"))
    return {Access::Kind::defer, rest, entry.where};
  if (equals_ignoring_case(word, "ok"))
    return {Access::Kind::ok, {}, entry.where};
  return {Access::Kind::cannot_tell, {}, entry.where};
}

}  // namespace

std::string check_access_value(std::string_view value) {
  if (meaning_of({std::string(value), {}, 0, {}}).kind != Access::Kind::cannot_tell)
    return {};
  return quote_value(trim(value), 80) + " says nothing; expected ok, reject TEXT or defer TEXT";
}

namespace {

Access first_of(const std::vector<TablePtr>& tables, const std::vector<Key>& keys) {
  for (const auto& key : keys)
    for (const auto& table : tables) {
      if (table->has_patterns() && !key.whole)
        continue;
      const auto found = table->find(key.text);
      if (!found)
        return {Access::Kind::cannot_tell, {}, {}};
      if (found->has_value())
        return meaning_of(**found);
    }
  return {};
}

}  // namespace

Access look_up_access(const std::vector<TablePtr>& tables, std::string_view address) {
  return tables.empty() ? Access() : first_of(tables, keys_of(address));
}

Access look_up_client(const std::vector<TablePtr>& tables, const IpAddress& address,
                      const ClientName* name) {
  return tables.empty() ? Access() : first_of(tables, keys_of(address, name));
}

Result<bool> is_listed(const std::vector<TablePtr>& tables, std::string_view address) {
  const auto domain = mail::domain_of(address);
  const std::string local_part(mail::local_part_of(address));
  const auto plus = local_part.find('+');
  for (const auto& table : tables) {
    std::vector<std::string> keys = {local_part + "@" + domain};
    if (!table->has_patterns()) {
      keys.push_back("@" + domain);
      if (plus != local_part.npos && plus > 0)
        keys.push_back(local_part.substr(0, plus) + "@" + domain);
    }
    for (const auto& key : keys) {
      const auto found = table->find(key);
      if (!found)
        return found.error();
      if (found->has_value())
        return true;
    }
  }
  return false;
}

}  // namespace postrider::smtpd
