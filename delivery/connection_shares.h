// Who may open one more connection when all connections together are limited. Pure.
//
// A stranger (a site that has not finished a transaction yet) and a slow site hold connections
// without doing much with them, and anybody can make many of either: strangers have at most half of
// all, slow sites leave some of that half to them, and both leave some for sites that do their work
// promptly. Whoever has some already, leaves room for those that have none.
//
// Places are lent: where no place has changed hands for a while and others wait, those that have
// been silent longest give theirs up, a batch at a time. Those that are silent in the middle of a
// message keep their connection and are no longer counted (connection_line.h).
#pragma once

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
  // Those that may be asked to give up their places at one time.
  std::size_t batch() const { return most_ < 8 ? 1 : most_ / 8; }
  // How many must go before a stranger may take the place of the next.
  std::size_t missing_for_stranger(const Usage& usage) const;

 private:
  std::size_t reserve() const;  // for sites that are prompt and have none
  std::size_t left_to_strangers(const Usage& usage) const;

  std::size_t most_;
};

}  // namespace postrider::delivery
