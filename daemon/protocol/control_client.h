// Blocking connections of the tools to the daemon's local sockets.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"
#include "daemon/protocol/control_protocol.h"

#include <functional>
#include <string>
#include <string_view>

namespace postrider::daemon {

class LocalConnection {
 public:
  // limit: of the wait for a daemon that accepts nothing, whose line of waiting connections is
  // full.
  static Result<LocalConnection> connect(const std::string& path,
                                         Duration limit = std::chrono::seconds(30));
  // Waits of read and write, each; 0: for ever.
  void set_timeout(Duration limit);
  Result<void> write(std::string_view bytes);  // EPIPE instead of a signal
  // The next line without its end; Errc::not_found at the end of the stream.
  Result<std::string> read_line(std::size_t most);

 private:
  explicit LocalConnection(FileDescriptor socket) : socket_(std::move(socket)) {}
  FileDescriptor socket_;
  std::string buffer_;
  std::size_t at_ = 0;
};

using OnLine = std::function<bool(const boost::json::object& line)>;
// Sends the request, gives each line of the answer to on_line, and returns its end.
Result<ControlEnd> ask(LocalConnection& connection, const ControlRequest& request,
                       const OnLine& on_line);

}  // namespace postrider::daemon
