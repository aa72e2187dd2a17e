#include "tables/table_files.h"

#include "tables/ldap_settings.h"
#include "tables/pgsql_settings.h"

namespace postrider::tables {

namespace {

std::vector<std::string> files_of(const ServerSettings& server) {
  std::vector<std::string> files = {server.tls_ca};
  if (!server.password_file.empty())
    files.push_back(server.password_file);
  return files;
}

}  // namespace

std::vector<std::string> further_files(const Spec& spec) {
  if (spec.kind != Kind::pgsql && spec.kind != Kind::ldap)
    return {};
  const auto source = read_source(spec.path);
  if (!source)
    return {};
  if (spec.kind == Kind::pgsql) {
    const auto settings = read_pgsql_settings(*source);
    return settings ? files_of(settings->common) : std::vector<std::string>();
  }
  const auto settings = read_ldap_settings(*source);
  return settings ? files_of(settings->common) : std::vector<std::string>();
}

}  // namespace postrider::tables
