// PAM, by a process of its own: its modules may block, leak or crash, and some need rights that a
// mail server must not have. The helper (program postrider-pam) is started with the rights that
// the daemon was started with, before it gives them up; it has no special rights of its own.
//
// One packet is one question: service, user, password and client address with NULs between them,
// and with it the descriptor of a pipe, into which the helper writes one letter: 'y', 'n' or 't'
// (cannot tell).
#pragma once

#include "base/file.h"
#include "base/result.h"

#include <string>

namespace postrider::smtpd::auth {

inline constexpr std::size_t kMostPamPacket = 4096;
inline constexpr int kPamSocket = 3;  // the helper's descriptor

class PamHelper {
 public:
  PamHelper() = default;
  ~PamHelper();
  PamHelper(const PamHelper&) = delete;
  PamHelper& operator=(const PamHelper&) = delete;

  // Before threads that matter; as the one whose rights the helper shall have. Once.
  Result<void> start();
  bool is_started() const { return socket_.is_open(); }

  enum class Verdict { yes, no, cannot_tell };
  // Blocks, for 25 seconds at most. Thread-safe.
  Result<Verdict> ask(const std::string& service, const std::string& user,
                      const std::string& password, const std::string& client) const;

 private:
  FileDescriptor socket_;
  int child_ = -1;
};

}  // namespace postrider::smtpd::auth
