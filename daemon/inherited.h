// Listening sockets that the service manager bound for us (sd_listen_fds(3)), by name.
#pragma once

#include "base/file.h"

#include <string>
#include <vector>

namespace postrider::daemon {

struct InheritedSocket {
  std::string name;  // FileDescriptorName= of the socket unit; "unknown" without one
  FileDescriptor socket;
  std::string address;  // "0.0.0.0:25", "[::]:25", "unix:/path"; for people
};

// From LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, which are then removed from the environment.
// What is not a listening stream socket is closed. Call once, before other threads are started.
// first: the number of the first descriptor; 3 by the protocol, another one in tests.
std::vector<InheritedSocket> take_inherited_sockets(int first = 3);

}  // namespace postrider::daemon
