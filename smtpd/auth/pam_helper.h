// PAM, by a process of its own: its modules may block, leak or crash, and some need rights that a
// mail server must not have. The helper (program postrider-pam, with the name of the service as its
// argument) is started, and started again, by whoever keeps those rights:
// daemon/privsep/pam_keeper.h.
//
// One packet is one question: user, password and client address with NULs between them, and with it
// the descriptor of a pipe, into which the helper writes one letter, 'y', 'n' or 't' (cannot tell),
// and four octets: the microseconds that PAM wants a refusal to be delayed by. A letter alone is no
// delay.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"

#include <string>

namespace postrider::smtpd::auth {

inline constexpr std::size_t kMostPamPacket = 4096;
inline constexpr int kPamSocket = 3;  // the helper's descriptor

// Beside our own program when built, in libexec when installed. Empty: it is not there.
std::string find_pam_program();

class PamHelper {
 public:
  // The socket to the helper; it may be dead, or not be started yet.
  explicit PamHelper(FileDescriptor socket) : socket_(std::move(socket)) {}

  enum class Verdict { yes, no, cannot_tell };
  struct Answer {
    Verdict verdict = Verdict::cannot_tell;
    Duration delay{};  // before a refusal is reported; at most kMostDelay
  };
  static constexpr Duration kMostDelay = std::chrono::seconds(15);
  // Blocks, for 25 seconds at most. Thread-safe.
  Result<Answer> ask(const std::string& user, const std::string& password,
                     const std::string& client) const;

 private:
  FileDescriptor socket_;
};

}  // namespace postrider::smtpd::auth
