// How often somebody may try to log in (pure; attacks.md X11).
//
// Tries are counted by client address (an IPv6 client by its /64) and by account, in buckets that
// run empty within the window. A try is charged when it begins and given back when it succeeds, so
// that parallel tries count too. No stranger from elsewhere can lock a user out: from where an
// account has been logged into before, neither the account's bucket nor the address's counts, only
// one of the pair's own; and the same wrong password again, as a forgotten telephone sends it,
// counts once there. Somebody behind the same address can fill that bucket too. Beyond it, the
// password that was right there last is still let through (any, as long as that is not known, after
// a start), and a mechanism that shows no password; that is a further bucket, kMoreAtHome times as
// large, for each such try is a guess. Accounts that do not exist are counted as those that do.
//
// Memory is bounded: kMostEntries of each kind; the emptiest bucket gives way.
#pragma once

#include "base/network.h"
#include "base/time.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postrider::smtpd::auth {

class LoginLimiter {
 public:
  static constexpr std::size_t kMostEntries = 65536;
  static constexpr std::size_t kMostPlaces = 8;  // known addresses of one account
  static constexpr std::uint32_t kMoreAtHome = 10;
  static constexpr std::uint32_t kMoreNotJudged = 3;

  struct Rules {
    std::uint32_t per_client = 20;  // tries in a window
    std::uint32_t per_account = 50;
    Duration window = std::chrono::hours(1);
  };
  enum class Verdict : std::uint8_t { may_try, client_exhausted, account_exhausted };

  // What became of a try, and what it was charged to: only that is given back.
  struct Try {
    enum class ChargedTo : std::uint8_t { nothing, pair, more, client, client_and_account };
    Verdict verdict = Verdict::may_try;
    ChargedTo charged_to = ChargedTo::nothing;
    std::string place;
    std::string account;
    std::uint64_t secret = 0;
    bool operator==(Verdict other) const { return verdict == other; }
  };

  explicit LoginLimiter(Rules rules) : rules_(rules) {}
  void set_rules(Rules rules) { rules_ = rules; }

  // Charges a try, unless it refuses. account: a user_key, or what was claimed instead of one;
  // empty: not known yet. secret: a tag of the password tried; 0: none.
  Try begin(const IpAddress& client, std::string_view account, std::uint64_t secret,
            SteadyTime now);
  // It was right: gives the try back, and knows the place from now on as one of the user's.
  void succeeded(Try& charged, std::string_view user, SteadyTime now);
  // It was never judged: gives the try back, once.
  void undo(Try& charged, SteadyTime now);
  // Whoever was asked could not tell. The try is given back, too, but to an address kMoreNotJudged
  // times as often alone as it may try, and where the account is known kMoreAtHome times: such an
  // answer may come of right passwords more often than of wrong ones.
  void not_judged(Try& charged, SteadyTime now);
  // It ended after the first of its messages, in which nothing can be guessed but names: the
  // address pays for it, unless it is a known one of the account, as that of a telephone that loses
  // its network; the account does not.
  void broken_off(Try& charged, SteadyTime now);

  // Places, as "account address" lines, to survive a restart.
  std::string places() const;
  void restore(std::string_view places);

 private:
  struct Bucket {
    double level = 0;
    SteadyTime when{};
    std::uint64_t last_secret = 0;
  };
  using Buckets = std::unordered_map<std::string, Bucket>;

  double level(const Bucket& bucket, std::uint32_t limit, SteadyTime now) const;
  Bucket& bucket(Buckets& buckets, const std::string& key, SteadyTime now);
  bool charge(Buckets& buckets, const std::string& key, std::uint32_t limit, SteadyTime now);
  void give_back(Buckets& buckets, const std::string& key, std::uint32_t limit, SteadyTime now);
  struct Place {
    std::string address;
    std::uint64_t secret = 0;  // that was right there last; 0: not known
    bool is_restored = false;  // from before a start: which one was right is not kept
  };
  Try begin_at_home(Try made, const Place& known, SteadyTime now);
  const Place* known_place(const std::string& place, std::string_view account) const;

  Rules rules_;
  Buckets clients_;
  Buckets accounts_;
  Buckets pairs_;
  Buckets more_;                                                // of pairs whose bucket is full
  Buckets not_judged_;                                          // of addresses and of pairs
  std::unordered_map<std::string, std::vector<Place>> places_;  // of accounts, latest last
};

}  // namespace postrider::smtpd::auth
