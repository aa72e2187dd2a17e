// What the challenges of another server's SCRAM look like (pure), so that a name which that server
// does not know gets one as well: from it nobody learns who exists.
//
// Learned from what the server sends: length of salt and nonce, iterations, whether a user's salt
// is another each time (Dovecot, where it keeps the password itself), and how long it takes. A name
// that is not known is like one of the accounts seen, always the same one, so that each form is
// as frequent as among those. Accounts are kept as tags, which without the secret name nobody.
//
// Which spellings of a name are one account, and so have one salt, is the server's business, too.
// Made-up salts that follow another form than the users' would tell them apart: too many salts for
// one name where its domain counts for nothing, one salt too few where its case does. How the
// server writes a name, a NameForm learns from names that nobody has. What it then finds may still
// be one account for several names, and that is learned from those who exist: with a domain that
// nobody has, without a domain, and in the other case.
#pragma once

#include "base/time.h"
#include "smtpd/auth/name_form.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postrider::smtpd::auth {

class Challenges {
 public:
  static constexpr std::size_t kMostAccounts = 1024;
  static constexpr std::size_t kFewestAccounts = 8;  // that tell how long the server takes
  static constexpr Duration kShortest{500};
  static constexpr Duration kLongest{4000};

  void set_secret(std::string secret) { secret_ = std::move(secret); }

  // Names to ask for before make_up() can follow the server in how it writes this one.
  std::vector<std::string> questions(std::string_view name) const;
  void learn_form(std::string_view question, std::string_view made) { form_.learn(question, made); }
  // Whom the server looked up for a name that it refuses. True: its form has become another, and is
  // to be learned once more; seldom, whatever it says.
  bool check_form(std::string_view name, std::string_view made, SteadyTime now);

  // The server's challenge for the first message of this name, `took` after it. True: there is more
  // to keep than before. Names here and below: as they were sent.
  bool learn(std::string_view name, std::string_view first, std::string_view challenge,
             Duration took);
  // How else to name somebody who exists, to learn what that is to the server; empty: that is
  // known, or was asked for not long ago.
  std::string other_spelling(std::string_view name, SteadyTime now);
  // What the server says to that, as its challenge; empty: it refuses. True as above.
  bool learn_spelling(std::string_view name, std::string_view spelling, std::string_view challenge);
  // A challenge for the client's first message; empty: no server would answer that with one.
  std::string make_up(std::string_view name, std::string_view first) const;
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
  std::string account_of(std::string_view name) const;

  std::string secret_;
  std::unordered_map<std::uint64_t, Form> accounts_;
  enum class Domains : std::uint8_t { unknown, count, ignored } domains_ = Domains::unknown;
  std::string realm_;            // of names without a domain; empty: none is known
  std::set<std::string> tried_;  // domains, whether one of them is that
  std::optional<SteadyTime> asked_;
  NameForm form_;
  bool is_case_ignored_ = false;  // by what looks names up, where their form keeps it
  std::optional<SteadyTime> asked_case_, forgot_;
};

}  // namespace postrider::smtpd::auth
