// One AUTH of one connection, on its way to whoever can answer: the side of
// smtpd/auth/authenticator.h that waits. Lives on the connection's loop; what takes time runs
// elsewhere.
#pragma once

#include "base/net/task.h"
#include "smtpd/auth/sasl.h"

namespace postrider::smtpd::auth {

class Exchange {
 public:
  virtual ~Exchange() = default;
  // One question at a time. Always answers, within half a minute.
  virtual Task<Answer> ask(Question question) = 0;
};

}  // namespace postrider::smtpd::auth
