// The file of a table that a PostgreSQL server answers:
//
//   server = ["/run/postgresql", "db.example.org:5432"]
//   dbname = "mail"
//   user = "postrider"
//   password_file = "/etc/postrider/mail.password"
//   query = "SELECT goto FROM alias WHERE address = $1 AND active"
//   parameters = ["%s"]
#pragma once

#include "tables/table_settings.h"

namespace postrider::tables {

struct PgsqlServer {
  std::string host;  // a name, an address, or the folder of a Unix socket
  std::string port = "5432";
};

struct PgsqlSettings {
  ServerSettings common;
  std::vector<PgsqlServer> servers;  // asked in this order, where one is not there
  std::string dbname, user, query;
  std::vector<std::string> parameters = {"%s"};
  bool verifies = true;  // TLS, and the server's certificate and name
};

// All that can be known without the server. Fails as SettingsFile does.
Result<PgsqlSettings> read_pgsql_settings(const Source& source);

}  // namespace postrider::tables
