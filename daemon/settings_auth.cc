// The receiving side's settings for logging in.
#include "base/file.h"
#include "base/text.h"
#include "daemon/settings.h"
#include "smtpd/auth/auth_service.h"

namespace postrider::daemon {

namespace {

// What the sources can serve; the strongest first.
std::vector<std::string> served(const AuthConfig& config) {
  if (!config.mechanisms.empty())
    return config.mechanisms;
  std::vector<std::string> names;
  if (!config.users.empty())
    names = {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"};
  if (config.has_passwords())
    names.insert(names.end(), {"PLAIN", "LOGIN"});
  if (config.has_tokens())
    names.insert(names.end(), {"OAUTHBEARER", "XOAUTH2"});
  if (!config.certificates.empty())
    names.emplace_back("EXTERNAL");
  return names;
}

// "id:secret" on one line.
Result<void> read_client(const std::string& path, smtpd::auth::OauthRules& oauth) {
  if (path.empty())
    return {};
  auto text = read_file(path, 4096);
  if (!text)
    return text.error().during("read " + path);
  const auto line = trim(std::string_view(*text).substr(0, text->find_last_not_of("\r\n") + 1));
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0 || line.find_first_of("\r\n") != line.npos ||
      line.front() == '{')
    return malformed("read " + path + ": one line of \"id:secret\" is needed");
  oauth.client_id = line.substr(0, colon);
  oauth.client_secret = line.substr(colon + 1);
  return {};
}

std::uint32_t number(std::uint64_t value) {
  return static_cast<std::uint32_t>(value);  // the option table has limits
}

}  // namespace

Result<smtpd::auth::AuthSettings> auth_settings(const Config& config) {
  const auto& given = config.auth;
  smtpd::auth::AuthSettings settings;
  settings.mechanisms = served(given);
  settings.users = given.users;
  settings.dovecot = given.dovecot;
  settings.pam = given.pam;
  settings.certificates = given.certificates;
  settings.senders = given.senders;
  auto domains = local_domains(config);
  if (!domains)
    return domains.error();
  settings.domains = std::move(*domains);
  settings.domains.push_back(ascii_lower(config.hostname));
  settings.oauth.introspect = given.oauth_introspect;
  settings.oauth.roots = given.oauth_roots;
  settings.oauth.keys = given.oauth_keys;
  settings.oauth.issuer = given.oauth_issuer;
  settings.oauth.audience = given.oauth_audience;
  settings.oauth.scope = given.oauth_scope;
  settings.oauth.user = given.oauth_user;
  if (auto read = read_client(given.oauth_client, settings.oauth); !read)
    return read.error();
  settings.tries.per_client = number(given.tries_per_client);
  settings.tries.per_account = number(given.tries_per_account);
  settings.limits.hour = {number(given.messages_per_hour), number(given.recipients_per_hour),
                          number(given.new_recipients_per_hour)};
  settings.limits.day = {number(given.messages_per_day), number(given.recipients_per_day),
                         number(given.new_recipients_per_day)};
  settings.failure_delay = given.failure_delay;
  settings.hash_threads = static_cast<unsigned>(given.hash_threads);
  return settings;
}

std::vector<TableProblem> check_logins(const Config& config) {
  const auto settings = auth_settings(config);
  if (!settings)
    return {{"auth.oauth_client", settings.error().describe()}};
  std::vector<TableProblem> problems;
  for (const auto& problem : smtpd::auth::check_files(*settings))
    problems.push_back({problem.option, problem.error.describe()});
  return problems;
}

}  // namespace postrider::daemon
