// One authentication at Dovecot's auth server: an own connection to its socket, closed at the end.
// On the connection's loop; nothing blocks.
#pragma once

#include "base/net/signal.h"
#include "base/net/tls/stream.h"
#include "smtpd/auth/dovecot_protocol.h"

#include <memory>
#include <optional>
#include <string>

namespace postrider::smtpd::auth {

class Dovecot {
 public:
  Dovecot(Loop& loop, std::string path) : loop_(loop), path_(std::move(path)) {}

  // Opens the connection, and asks.
  Task<Result<DovecotReply>> begin(DovecotRequest request);
  // A second request on it, while the first may still wait for its reply. Ends with an error if
  // there is no connection, or it ends. Its id is not 1.
  Task<Result<DovecotReply>> ask_beside(DovecotRequest request);
  // The client's next response, after go_on.
  Task<Result<DovecotReply>> go_on(std::string response);
  // Nobody waits for an answer any more: what is asked ends with an error.
  void cancel();

 private:
  Task<Result<void>> open();
  Task<Result<DovecotReply>> ask(std::string line);
  Task<Result<DovecotReply>> await_reply();
  Task<Result<std::string>> read_line();

  Loop& loop_;
  std::string path_;
  std::unique_ptr<Stream> stream_;
  std::string have_;  // read, and not yet taken
  bool has_asked_ = false;
  bool is_reading_ = false;  // for the first request
  unsigned beside_id_ = 0;
  std::optional<DovecotReply> beside_;
  Signal moved_;  // one of the last four
  bool is_cancelled_ = false;
};

}  // namespace postrider::smtpd::auth
