// Unix sockets for local doors: who is at the other end is known from the kernel.
#pragma once

#include "base/file.h"
#include "base/net/loop.h"
#include "base/net/tls/stream.h"
#include "base/result.h"

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

namespace postrider {

struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::vector<gid_t> groups;  // supplementary
  bool is_in(gid_t group) const;
};
// As the kernel noted them when the peer connected.
Result<Peer> peer_of(int socket);
// Root, this process' user, or a member of its group.
bool may_administrate(const Peer& peer);

class LocalListener {
 public:
  // mode: of the socket file. A file of another kind at `path` is an error, a socket that somebody
  // listens on too; a left-over one is replaced.
  static Result<std::unique_ptr<LocalListener>> bind(std::string path, unsigned mode, Loop& loop);
  ~LocalListener();

  // The next connection. Fails with operation_aborted after close().
  Task<Result<std::unique_ptr<Stream>>> accept();
  Result<void> set_mode(unsigned mode);  // of the socket file
  void close();                          // removes the file
  const std::string& path() const { return path_; }

 private:
  using Descriptor = asio::posix::basic_stream_descriptor<Executor>;
  LocalListener(std::string path, Loop& loop, FileDescriptor socket);

  std::string path_;
  Loop& loop_;
  Descriptor socket_;
};

}  // namespace postrider
