// Who has logged in with a password: pure but for its random numbers. A session has two secrets:
// one in a cookie that no script can read, one that the page keeps in its tab and sends in a header
// field. Either alone is worth nothing, so neither another site's page (which the cookie goes with)
// nor another port of this host (which is sent the cookie too), nor a script that reads the tab's
// storage, can use it. Kept in memory alone, as digests: a restart ends them all.
#pragma once

#include "web/tokens.h"

#include "base/time.h"

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace postrider::web {

class Sessions {
 public:
  static constexpr std::size_t kMost = 1000;  // the one that was used least lately gives way
  static constexpr std::size_t kMostOfUser = 10;
  static constexpr Duration kIdle{std::chrono::minutes(30)};
  static constexpr Duration kLife{std::chrono::hours(8)};

  struct Secrets {
    std::string cookie, key;
  };
  struct User {
    std::string name;
    Role role = Role::none;
  };
  Secrets open(User user, SteadyTime now);
  // Whose it is, which is a use of it; nothing: there is none with both, or it has ended.
  std::optional<User> find(const Secrets& given, SteadyTime now);
  // Whose it was.
  std::optional<User> close(const Secrets& given, SteadyTime now);
  std::size_t count() const { return sessions_.size(); }

 private:
  struct Session {
    User user;
    std::string key_hash;
    SteadyTime begun{}, used{};
  };
  using Map = std::unordered_map<std::string, Session>;  // by the digest of the cookie

  Map::iterator lookup(const Secrets& given, SteadyTime now);
  static bool has_ended(const Session& session, SteadyTime now);
  void make_room(const std::string& user, SteadyTime now);

  Map sessions_;
};

}  // namespace postrider::web
