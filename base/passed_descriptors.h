// Descriptors that come with what is read on a Unix socket (SCM_RIGHTS), wanted or not. Whoever
// reads without room for them has the kernel close them at that place, and whoever closes a socket
// that was not read to its end too; how long that takes, the sender may say: the last close of a
// TCP socket that lingers waits for its peer. One that is taken is worse: it counts against our
// limit of open files, and to close one of a file of FUSE waits for whoever serves it, without end
// and without a way to kill the process.
#pragma once

#include "base/file.h"

#include <cstddef>
#include <cstdint>
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

// As recv(2), without waiting, for Unix sockets over which none are to be passed: EPROTO if one
// was, which stays where it is, unopened, together with all that follows. The socket is then good
// for close_local() alone.
ssize_t receive_plain(int socket, char* room, std::size_t size);

// Closes a Unix socket, aside if anything is left in it: what came with that closes too.
// owner: who has sent it, see base/close_aside.h.
void close_local(FileDescriptor socket, std::uint64_t owner);

}  // namespace postrider
