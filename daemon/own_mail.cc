#include "daemon/own_mail.h"

#include <functional>

namespace postrider::daemon {

namespace {

// Ordinary mail, about whose failure nobody wants a notice.
queue::Submission as_submission(delivery::ReportMail mail, TimePoint now) {
  auto message = std::make_shared<mail::Message>();
  message->id = mail.id;
  message->received = now;
  message->envelope.sender = std::move(mail.sender);
  if (mail.needs_no_tls)
    message->envelope.tls = mail::TlsWish::optional;
  mail::Recipient recipient;
  recipient.address = std::move(mail.recipient);
  recipient.notify.bits = mail::Notify::kNever;
  message->envelope.recipients.push_back(std::move(recipient));
  message->origin.protocol = "report";
  auto& content = message->content;
  content.size = mail.text.size();
  content.longest_line = 998;
  content.bytes = std::make_shared<const std::string>(std::move(mail.text));
  queue::Submission submission;
  submission.message = std::move(message);
  return submission;
}

}  // namespace

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

delivery::ReportPost report_post(OwnMail by, const Clock& clock) {
  delivery::ReportPost post;
  post.next_id = [queue = by.queue] { return queue->next_id(); };
  post.submit = [by, &clock](delivery::ReportMail mail) {
    return submit_own(by, as_submission(std::move(mail), clock.now()));
  };
  return post;
}

}  // namespace postrider::daemon
