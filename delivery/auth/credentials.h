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
//   token_command = /usr/local/bin/token someone     # prints a token; an argument vector, no shell
//
// or
//
//   token_endpoint = https://login.example.org/oauth2/token
//   client_id = ...
//   client_secret = ...                  # if the provider gave one
//   client_auth = basic                  # or post, the default: how id and secret are sent
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
  std::vector<std::string> token_command;  // an absolute path and its arguments
  std::string token_endpoint, client_id, client_secret, refresh_token, scope;
  bool client_auth_basic = false;
  std::vector<std::string> mechanisms;  // upper case
  bool allow_clear = false;

  bool is_token() const { return password.empty(); }
  bool operator==(const CredentialsFile&) const = default;
};

struct CredentialsProblem {
  std::size_t line = 0;  // 0: the whole file
  std::string key;       // empty: the line itself, or the file
  std::string text;      // what is wrong, what is allowed; never a value
  // "/etc/postrider/relay:3: pasword: unknown key; allowed: ..."
  std::string describe(const std::string& path) const;
};

struct LoadedCredentials {
  CredentialsFile file;  // of use only without problems
  std::vector<CredentialsProblem> problems;
};

LoadedCredentials parse_credentials(std::string_view text);
// Refuses what is not a regular file, above 64 KiB, or readable by others than its owner and group.
LoadedCredentials load_credentials(const std::string& path);

}  // namespace postrider::delivery
