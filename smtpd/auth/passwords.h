// Passwords against the password file, by crypt(3). Blocks for as long as a hash takes: only on
// threads made for that. Thread-safe.
#pragma once

#include "base/result.h"
#include "smtpd/auth/user_file.h"

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace postrider::smtpd::auth {

// A fresh yescrypt hash at libxcrypt's cost.
Result<std::string> hash_password(std::string_view password);
// RFC 5802 §3, with a fresh salt.
ScramKeys make_scram_keys(std::string_view password, std::uint32_t iterations);
// Any hash of crypt(5), also behind a "{SCHEME}" as Dovecot writes it.
bool matches(std::string_view password, const std::string& hash);

class Passwords {
 public:
  // secret: for keys of users that do not exist; the same after a restart, or the made-up ones
  // would be told from the real ones.
  Passwords(std::string path, std::string secret);

  // The file as it is now; read again when it has changed. An unreadable or broken one is an error.
  // While one that looks unfinished has not been at rest for ten seconds, the one before still
  // counts; without one before, is_perhaps_unfinished(error).
  Result<std::shared_ptr<const UserFile>> file();

  // Takes as long for a user who does not exist or is locked.
  Result<bool> check(std::string_view user, std::string_view password);
  Result<ScramKeys> scram_keys(std::string_view user);

 private:
  std::uint64_t draw_for(std::string_view what, std::string_view user) const;

  struct Stamp {
    std::uint64_t device = 0, inode = 0, size = 0;
    std::int64_t seconds = 0, nanoseconds = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };

  const std::string path_;
  const std::string secret_;
  const std::string spare_hash_;  // while the file has none
  std::mutex mutex_;
  Stamp stamp_;
  std::shared_ptr<const UserFile> file_;
};

}  // namespace postrider::smtpd::auth
