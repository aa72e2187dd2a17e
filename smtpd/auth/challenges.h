// What the challenges of another server's SCRAM look like (pure), so that a name which that server
// does not know gets one as well: from it nobody learns who exists.
//
// Learned from what the server sends: length of salt and nonce, iterations, whether a user's salt
// is another each time (Dovecot, where it keeps the password itself), and how long it takes. A name
// that is not known is like one of the accounts seen, always the same one, so that each form is
// as frequent as among those. Accounts are kept as tags, which without the secret name nobody.
#pragma once

#include "base/time.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace postrider::smtpd::auth {

class Challenges {
 public:
  static constexpr std::size_t kMostAccounts = 1024;
  static constexpr std::size_t kFewestAccounts = 8;  // that tell how long the server takes
  static constexpr Duration kShortest{500};
  static constexpr Duration kLongest{4000};

  void set_secret(std::string secret) { secret_ = std::move(secret); }

  // The server's challenge for this account's first message, `took` after it. True: there is more
  // to keep than before.
  bool learn(std::string_view account, std::string_view first, std::string_view challenge,
             Duration took);
  // A challenge for the client's first message; empty: no server would answer that with one.
  std::string make_up(std::string_view account, std::string_view first) const;
  // How long after the client's message a challenge is sent, real or not: then those that are to
  // come have come, and the time tells nothing. Four times what the server took for half of the
  // accounts, in steps of two: no single name changes it, however slowly the server finds that.
  Duration hold() const;

  // The forms, and the time, as lines that survive a restart.
  std::string save() const;
  void restore(std::string_view text);

 private:
  // Of one account: unknown until it has been seen twice.
  enum class Salts : std::uint8_t { unknown, same, fresh };
  struct Form {
    std::uint32_t salt_size = 16;  // what Dovecot makes
    std::uint32_t nonce_size = 64;
    std::uint32_t iterations = 4096;
    Salts salts = Salts::unknown;
    Duration took{};
    std::uint64_t salt = 0;  // a tag of the last; 0: not known
    bool looks_like(const Form& other) const {
      return salt_size == other.salt_size && nonce_size == other.nonce_size &&
             iterations == other.iterations && salts == other.salts;
    }
  };
  std::uint64_t tag_of(std::string_view what, std::string_view name) const;
  Form form_for(std::string_view account) const;

  std::string secret_;
  std::unordered_map<std::uint64_t, Form> accounts_;
};

}  // namespace postrider::smtpd::auth
