#include "mailauth/key_record.h"

#include "mail/address.h"
#include "mailauth/tag_list.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kMostRecordSize = 8192;
constexpr std::size_t kMostStringSize = 255;
constexpr std::size_t kMostName = 253;

bool contains(const std::vector<std::string_view>& list, std::string_view wanted) {
  return std::find(list.begin(), list.end(), wanted) != list.end();
}

}  // namespace

Result<KeyRecord> parse_key_record(std::string_view text) {
  if (text.size() > kMostRecordSize)
    return Error(Errc::too_long, "key record too long");
  const auto tags = TagList::parse(text);
  if (!tags)
    return tags.error();
  KeyRecord record;
  if (const auto version = tags->value("v");
      version && (*version != "DKIM1" || tags->tags().front().name != "v"))
    return malformed("key record of an unknown version");
  const auto type = tags->value("k").value_or("rsa");
  if (type != "rsa" && type != "ed25519")
    return Error(Errc::unsupported, "key record of an unknown key type");
  record.type = type == "rsa" ? KeyType::rsa : KeyType::ed25519;
  const auto data = tags->value("p");
  if (!data)
    return malformed("key record without p=");
  const auto key = decode_folded_base64(*data);
  if (!key)
    return malformed("key record with an invalid p=");
  record.key = *key;
  if (const auto hashes = tags->value("h"))
    record.allows_sha256 = contains(split_trimmed(*hashes, ':'), "sha256");
  const auto services = split_trimmed(tags->value("s").value_or("*"), ':');
  record.allows_email = contains(services, "*") || contains(services, "email");
  const auto flags = split_trimmed(tags->value("t").value_or(""), ':');
  record.testing = contains(flags, "y");
  record.same_domain = contains(flags, "s");
  return record;
}

std::optional<std::string> key_name(std::string_view selector, std::string_view domain) {
  std::string name(selector);
  name.append("._domainkey.").append(domain);
  if (name.size() > kMostName || !mail::is_dns_name(selector) || !mail::is_dns_name(domain))
    return std::nullopt;
  return name;
}

std::string key_record_text(const PrivateKey& key) {
  std::string text("v=DKIM1; k=");
  return text.append(to_string(key.type())).append("; p=").append(key.public_data());
}

std::vector<std::string> zone_strings(std::string_view text) {
  std::vector<std::string> strings;
  while (!text.empty() || strings.empty()) {
    const auto piece = text.substr(0, kMostStringSize);
    std::string quoted("\"");
    for (const char c : piece) {
      if (c == '"' || c == '\\')
        quoted.push_back('\\');
      quoted.push_back(c);
    }
    strings.push_back(quoted + '"');
    text.remove_prefix(piece.size());
  }
  return strings;
}

}  // namespace postrider::mailauth
