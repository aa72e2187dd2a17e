// The password file (pure): one user a line,
//
//   anna@example.org:$y$j9T$...:SCRAM-SHA-256,16384,<salt>,<stored key>,<server key>
//
// Name, a hash of crypt(5), and the keys of RFC 5802 in base64; either of the last two may be
// missing. A hash that crypt(5) cannot compute, such as "*", fits no password; one that begins with
// "!" locks the user, keys included. "#" begins a comment line. `postrider passwd` writes it.
#pragma once

#include "base/result.h"
#include "smtpd/auth/sasl.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace postrider::smtpd::auth {

struct UserEntry {
  std::string hash;
  std::optional<ScramKeys> scram;
  bool is_locked() const { return hash.starts_with('!'); }
};

class UserFile {
 public:
  static constexpr std::size_t kMostLine = 2048;
  static constexpr std::uint32_t kIterations = 16384;  // of new SCRAM keys, and of made-up ones

  // The error names the line. Names that come twice are errors.
  static Result<UserFile> parse(std::string_view text);

  // user: a user_key. Null: no such user.
  const UserEntry* find(std::string_view user) const;
  std::size_t size() const { return users_.size(); }
  // For the password of a user who does not exist, or is locked, to be compared with: one of the
  // file's hashes that can be computed, each kind of cost as often as users have it. The same draw
  // gives the same kind; empty if there is none.
  const std::string& made_up_hash(std::uint64_t draw) const;
  // The iterations of made-up SCRAM keys, likewise.
  std::uint32_t made_up_iterations(std::uint64_t draw) const;

 private:
  std::unordered_map<std::string, UserEntry> users_;
  std::vector<std::pair<std::size_t, std::string>> costs_;  // how many users, and a hash of theirs
  std::vector<std::pair<std::size_t, std::uint32_t>> iterations_;
};

// Without the "{SCHEME}" that Dovecot writes before it.
std::string_view crypt_setting(std::string_view hash);
// Whether some password could fit it.
bool is_computable(std::string_view hash);
std::string format_user(std::string_view user, const UserEntry& entry);
// The file's text with this user's line replaced, added, or (entry null) taken out. Nothing if
// there was none to take out.
std::optional<std::string> with_user(std::string_view text, std::string_view user,
                                     const UserEntry* entry);

}  // namespace postrider::smtpd::auth
