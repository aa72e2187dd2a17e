// Mail of this machine's users that comes over loopback or a Unix socket: whose it is.
#pragma once

#include <cstdint>
#include <optional>
#include <sys/socket.h>

namespace postrider::smtpd {

// Counted as one user: those who had closed their end before we could ask for its owner.
inline constexpr std::uint32_t kUnknownUser = 65534;

// The user at the other end of an accepted connection, if that end is on this machine. Asks the
// kernel, which answers at once. Nothing: a peer elsewhere, or in another network namespace.
// any_address: also a peer at an address of this machine that is not of loopback, which takes some
// microseconds to find out for each peer.
std::optional<std::uint32_t> local_user_of(int socket, const sockaddr* peer,
                                           bool any_address = false);

}  // namespace postrider::smtpd
