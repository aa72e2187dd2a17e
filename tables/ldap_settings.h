// The file of a table that an LDAP server answers:
//
//   server = ["ldap://ldap1.example.org", "ldap://ldap2.example.org"]
//   bind_dn = "cn=postrider,dc=example,dc=org"
//   password_file = "/etc/postrider/ldap.password"
//   base = "ou=people,dc=example,dc=org"
//   filter = "(&(objectClass=inetOrgPerson)(mail=%s))"
//   attribute = "uid"
#pragma once

#include "tables/table_settings.h"

namespace postrider::tables {

struct LdapServer {
  std::string url;  // as libldap reads it
  bool starts_tls = false;
};

enum class LdapScope : std::uint8_t { sub, one, base };

struct LdapSettings {
  ServerSettings common;
  std::vector<LdapServer> servers;  // asked in this order, where one is not there
  std::string bind_dn;              // empty: anonymously
  std::string base, filter;         // templates (tables/key_template.h)
  LdapScope scope = LdapScope::sub;
  std::vector<std::string> attributes;  // all values of each count
};

// All that can be known without the server. Fails as SettingsFile does.
Result<LdapSettings> read_ldap_settings(const Source& source);

// A part of a key as a value in a filter (RFC 4515 §3), or in a distinguished name (RFC 4514 §2.4):
// whatever it holds, it stays one value there.
std::string escape_for_filter(std::string_view part);
std::string escape_for_dn(std::string_view part);

}  // namespace postrider::tables
