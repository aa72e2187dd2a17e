// Key records in the DNS (RFC 6376 §3.6.1, RFC 8463 §4).
#pragma once

#include "mailauth/keys.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

struct KeyRecord {
  KeyType type = KeyType::rsa;
  std::string key;            // p=, decoded; empty: revoked
  bool testing = false;       // t=y
  bool same_domain = false;   // t=s: the domain of i= must be that of d=
  bool allows_sha256 = true;  // h=
  bool allows_email = true;   // s=
  bool is_revoked() const { return key.empty(); }
};

// One TXT record, its strings joined. Errors: not a key record, or one of a version or a key type
// that is unknown, which must be ignored.
Result<KeyRecord> parse_key_record(std::string_view text);

// Where the record of a selector is: "selector._domainkey.domain"; nothing if that is not a name.
std::optional<std::string> key_name(std::string_view selector, std::string_view domain);

// The record of a key, to be published: "v=DKIM1; k=ed25519; p=...".
std::string key_record_text(const PrivateKey& key);
// A record's strings as they stand in a zone file, quoted and of at most 255 octets each.
std::vector<std::string> zone_strings(std::string_view text);

}  // namespace postrider::mailauth
