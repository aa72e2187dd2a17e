// Who may open one more connection when all connections together are limited. Pure.
//
// A stranger (a site that has not finished a transaction yet) and a slow site hold connections
// without doing much with them, and anybody can make many of either: strangers have at most half of
// all, and both leave some for sites that do their work promptly. Whoever has some already, leaves
// room for those that have none. The last places of strangers are given out slowly: a host that is
// silent behind the content keeps its place for ten minutes, and a newcomer shall not wait as long.
#pragma once

#include "base/time.h"

#include <cstddef>
#include <cstdint>

namespace postrider::delivery {

enum class Standing : std::uint8_t {
  stranger,
  slow,  // its last connection or transaction took long, or one takes long now; or a route's host
         // that has done nothing yet
  prompt,
};

class ConnectionShares {
 public:
  struct Usage {
    std::size_t all = 0;
    std::size_t strangers = 0;  // begun by strangers that are still such
    std::size_t patient = 0;    // of these: on their second try, which is given more time
  };
  explicit ConnectionShares(std::size_t most) : most_(most) {}

  // own: connections that the site has.
  bool may_add(Standing standing, bool is_patient, std::size_t own, const Usage& usage) const;
  std::size_t of_strangers() const { return most_ > 2 ? most_ / 2 : 1; }
  // That many strangers have one now: the next place only pace() after the one before.
  bool is_scarce(std::size_t strangers) const { return most_ >= 8 && strangers >= plenty(); }
  Duration pace() const;

 private:
  std::size_t plenty() const { return most_ * 3 / 8; }
  std::size_t reserve() const;  // for sites that are prompt and have none

  std::size_t most_;
};

}  // namespace postrider::delivery
