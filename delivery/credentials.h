// The file that a route's `credentials` names. Pure but for load_credentials().
//
//   # one "key = value" a line; the value is the rest of the line, in "..." if it needs its spaces
//   user = someone@example.org
//   password = secret                    # this is part of the password
//   mechanisms = SCRAM-SHA-256 PLAIN     # only these; default: the strongest that is offered
//   allow_clear = yes                    # send the password without TLS too
//
// or, for OAuth, in place of the password
//
//   token_command = /usr/local/bin/token someone     # prints a token; run by /bin/sh
//
// or
//
//   token_endpoint = https://login.example.org/oauth2/token
//   client_id = ...
//   client_secret = ...                  # if the provider gave one
//   refresh_token = ...
//   scope = ...                          # if the provider wants one
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct CredentialsFile {
  std::string user, password;
  std::string token_command;
  std::string token_endpoint, client_id, client_secret, refresh_token, scope;
  std::vector<std::string> mechanisms;  // upper case
  bool allow_clear = false;
  bool is_token() const { return password.empty(); }
};

// name: of the file, for errors: "/etc/postrider/relay:3: pasword: unknown key; allowed: ...".
Result<CredentialsFile> parse_credentials(std::string_view text, const std::string& name);
// Refuses a file that others may read.
Result<CredentialsFile> load_credentials(const std::string& path);

}  // namespace postrider::delivery
