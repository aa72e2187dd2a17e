// Who reaches the listeners of a configuration, by their addresses alone.
#pragma once

#include "base/network.h"
#include "daemon/config/config.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace postrider::daemon {

// Nothing: a Unix socket, or one that systemd names.
struct ListenerPlace {
  IpAddress address;
  std::uint16_t port = 0;
  bool is_any() const;  // all addresses of the machine
};
std::optional<ListenerPlace> listener_place(std::string_view address);

// Some listener takes connections from other machines, as far as its address tells.
bool is_reached_from_outside(const Config& config);
// A network that is an eighth of all addresses or more.
bool is_everybody(std::string_view network);

}  // namespace postrider::daemon
