#include "daemon/own_mail.h"

#include <functional>

namespace postrider::daemon {

Task<Result<void>> submit_own(OwnMail by, queue::Submission submission) {
  if (by.signer && by.signer->now_for(mailauth::SigningRole::notices)) {
    const std::function<bool()> job = [&] {
      mailauth::sign_own(*by.signer, submission.message, *by.log, submission.message->received);
      return true;
    };
    (void)co_await by.pool->run<bool>(*by.home, job);
  }
  auto accepted = co_await by.queue->accept(*by.home, std::move(submission));
  co_return accepted;
}

}  // namespace postrider::daemon
