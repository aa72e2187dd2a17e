#include "tables/pgsql_settings.h"

#include "base/quoted.h"
#include "base/text.h"
#include "tables/key_template.h"

#include <algorithm>
#include <optional>

namespace postrider::tables {

namespace {

constexpr std::size_t kMostParameters = 9;

// "/run/postgresql", "db.example.org", "db.example.org:5433", "[2001:db8::1]:5433"
std::optional<PgsqlServer> parse_server(std::string_view text) {
  PgsqlServer server;
  const bool is_folder = text.starts_with('/');
  const auto colon = text.rfind(':');
  if (colon != text.npos && !text.ends_with(']')) {
    const auto port = parse_unsigned(text.substr(colon + 1));
    if (!port || *port == 0 || *port > 65535)
      return std::nullopt;
    server.port = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  if (!is_folder && text.starts_with('[') && text.ends_with(']'))
    text = text.substr(1, text.size() - 2);
  else if (text.find(':') != text.npos)
    return std::nullopt;
  // A comma would make two of it for libpq, and "@" another kind of socket.
  if (text.empty() || text.find_first_of(", @[]") != text.npos ||
      (!is_folder && text.find('/') != text.npos))
    return std::nullopt;
  server.host = text;
  return server;
}

std::string check_server(std::string_view text) {
  return parse_server(text) ? std::string()
                            : quote_value(text, 80) +
                                  " is not a server; expected \"host\", \"host:port\" or the "
                                  "folder of a socket such as \"/run/postgresql\"";
}

// The largest n of $n.
std::size_t most_parameter(std::string_view query) {
  std::size_t most = 0;
  for (std::size_t at = query.find('$'); at != query.npos; at = query.find('$', at + 1)) {
    const auto rest = query.substr(at + 1);
    const auto digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    if (const auto number = parse_unsigned(rest.substr(0, digits)))
      most = std::max<std::size_t>(most, *number);
  }
  return most;
}

std::string check_query(std::string_view query) {
  for (const char* name : {"%s", "%u", "%d"})
    if (query.find(name) != query.npos)
      return std::string("has ") + name + " in it; expected $1, and parameters = [\"" + name +
             "\"] to say what that is";
  if (most_parameter(query) == 0)
    return "does not use the key; expected a SELECT of one column with the parameter $1";
  return {};
}

bool is_remote(const PgsqlServer& server) {
  return !server.host.starts_with('/') && !is_loopback(server.host);
}

}  // namespace

Result<PgsqlSettings> read_pgsql_settings(const Source& source) {
  PgsqlSettings settings;
  std::vector<std::string> servers = {"/run/postgresql"};
  std::string tls;
  auto known = settings_of(settings.common);
  known.push_back({"server", Setting::Texts{servers, check_server}});
  known.push_back({"dbname", Setting::Text{settings.dbname}, true});
  known.push_back({"user", Setting::Text{settings.user}, true});
  known.push_back({"query", Setting::Text{settings.query, check_query}, true});
  known.push_back({"parameters", Setting::Texts{settings.parameters, check_key_template}});
  known.push_back({"tls", Setting::Text{tls, check_tls}});
  SettingsFile file;
  if (auto read = file.read(source, known); !read)
    return read.error();
  for (const auto& server : servers)
    settings.servers.push_back(*parse_server(server));
  if (settings.servers.empty())
    return file.problem("server", "is empty; expected at least one server");
  if (settings.parameters.empty() || settings.parameters.size() > kMostParameters)
    return file.problem("parameters", "holds " + std::to_string(settings.parameters.size()) +
                                          " texts; expected from 1 to 9 such as \"%s\"");
  const auto most = most_parameter(settings.query);
  if (most != settings.parameters.size())
    return file.problem("query", "uses $" + std::to_string(most) + ", and there are " +
                                     std::to_string(settings.parameters.size()) +
                                     " parameters; expected as many");
  const bool any_remote = std::any_of(settings.servers.begin(), settings.servers.end(), is_remote);
  settings.verifies = tls.empty() ? any_remote : tls == "verify";
  return settings;
}

}  // namespace postrider::tables
