// Descriptors that come with what is read on a Unix socket (SCM_RIGHTS), wanted or not. Whoever
// reads without room for them has the kernel close them at that place, and whoever closes a socket
// that was not read to its end too; how long that takes, the sender says (base/close_aside.h).
#pragma once

#include "base/file.h"

#include <cstddef>
#include <sys/socket.h>
#include <sys/types.h>
#include <vector>

namespace postrider {

bool is_local_socket(int descriptor);

// recvmsg(2) of what fits into `room`, with all descriptors that came with it.
struct Passed {
  ssize_t octets = -1;
  int flags = 0;  // MSG_TRUNC, MSG_CTRUNC
  std::vector<FileDescriptor> descriptors;
};
Passed receive_passed(int socket, void* room, std::size_t size, int flags = 0);

// As recv(2) for sockets over which none are to be passed: EPROTO if one was.
ssize_t receive_plain(int socket, char* room, std::size_t size);

// Before it is closed: nothing more comes, and nothing is left in it.
void drain_local(int socket);

}  // namespace postrider
