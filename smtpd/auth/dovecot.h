// One authentication at Dovecot's auth server: an own connection to its socket, closed at the end.
// On the connection's loop; nothing blocks.
#pragma once

#include "base/net/tls/stream.h"
#include "smtpd/auth/dovecot_protocol.h"

#include <memory>
#include <string>

namespace postrider::smtpd::auth {

class Dovecot {
 public:
  Dovecot(Loop& loop, std::string path) : loop_(loop), path_(std::move(path)) {}

  // Opens the connection, for a request that may come later.
  Task<Result<void>> open();
  // Opens the connection, unless that is done, and asks.
  Task<Result<DovecotReply>> begin(DovecotRequest request);
  // The client's next response, after go_on.
  Task<Result<DovecotReply>> go_on(std::string response);
  // Nobody waits for an answer any more: what is asked ends with an error.
  void cancel();

 private:
  Task<Result<DovecotReply>> ask(std::string line);
  Task<Result<std::string>> read_line();

  Loop& loop_;
  std::string path_;
  std::unique_ptr<Stream> stream_;
  std::string have_;  // read, and not yet taken
  bool is_open_ = false;
  bool is_cancelled_ = false;
};

}  // namespace postrider::smtpd::auth
