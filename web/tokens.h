// Who may use the API: a file with a line for each token, "ROLE HASH NAME". ROLE is read, change
// (which may read too) or send (which may do nothing else), HASH the SHA-256 of the token in
// hexadecimal digits, NAME says whose it is. A token is 32 random octets, so a plain digest of it
// is as good as a slow one. Empty lines and those that begin with
// "#" count for nothing.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postrider::web {

enum class Role : std::uint8_t { none, read, change, send };
const char* name_of(Role role);
Role parse_role(std::string_view name);  // none: there is no such role

struct Token {
  Role role = Role::none;
  std::string hash;  // 64 hexadecimal digits, lower case
  std::string name;
};

inline constexpr std::size_t kMostTokens = 1000;
inline constexpr std::size_t kMostTokenFile = 256U << 10U;

// "line 3: what is wrong, what is expected" for the first line that is.
Result<std::vector<Token>> parse_tokens(std::string_view text);

// Errc::refused, with the remedy, for a file that others may write, or everybody may read.
Result<std::vector<Token>> read_tokens(const std::string& path);

// Whose token this is: compared with every one, in the same time; null: it is none.
const Token* find_token(const std::vector<Token>& tokens, std::string_view given);

struct NewToken {
  std::string secret;  // to be shown once
  std::string line;    // for the file, with its end
};
NewToken make_token(Role role, const std::string& name);

// Guesses of an address: a few, then none for a while. Bounded; one thread at a time.
class GuessLimiter {
 public:
  bool may_try(const std::string& client, SteadyTime now);
  void failed(const std::string& client, SteadyTime now);

 private:
  static constexpr unsigned kMost = 10;
  static constexpr Duration kWindow{std::chrono::minutes(1)};
  static constexpr std::size_t kMostClients = 4096;
  struct Guesses {
    unsigned count = 0;
    SteadyTime since{};
  };
  void forget(SteadyTime now);
  std::unordered_map<std::string, Guesses> clients_;
};

}  // namespace postrider::web
