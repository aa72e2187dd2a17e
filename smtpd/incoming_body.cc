#include "smtpd/incoming_body.h"

#include "mail/header.h"

#include <utility>

namespace postrider::smtpd {

void FinishedBody::describe(mail::Content& content) {
  content.size = size_;
  if (file_.is_open())
    content.file = file_.name();
  else
    content.bytes = std::make_shared<const std::string>(std::move(bytes_));
}

Error IncomingBody::lose(Error error) {
  file_ = queue::BodyFile();
  lost_ = error;
  return error;
}

Result<void> IncomingBody::spill(std::string& bytes) {
  if (auto taken = take(bytes); !taken)
    return taken;
  return append(bytes);
}

Result<FinishedBody> IncomingBody::finish(std::string bytes, std::uint64_t received) {
  if (auto taken = take(bytes); !taken)
    return taken.error();
  if (taken_ != received)
    return lose(Error(Errc::truncated, "keep content: " + std::to_string(taken_) + " of " +
                                           std::to_string(received) + " octets are there"));
  if (file_.is_open()) {
    if (auto appended = append(bytes); !appended)
      return appended.error();
  } else {
    id_ = custody_->next_id();
  }
  FinishedBody body;
  body.size_ = size_;
  body.bytes_ = std::move(bytes);
  body.file_ = std::exchange(file_, queue::BodyFile());
  body.fresh_header_ = std::move(fresh_header_);
  lost_ = Error(Errc::stopped, "keep content: handed on already");
  return body;
}

Result<void> IncomingBody::take(std::string& bytes) {
  if (custody_ == nullptr)
    return Error(Errc::truncated, "keep content: no message");
  if (lost_)
    return *lost_;
  taken_ += bytes.size();
  if (auto done = repair(bytes); !done)
    return done;
  size_ += bytes.size();
  return {};
}

Result<void> IncomingBody::repair(std::string& bytes) {
  if (!awaits_header())
    return {};
  repaired_ = true;
  if (repair_.judge)
    is_refused_ =
        !repair_.judge(std::string_view(bytes).substr(0, mail::header_section_size(bytes)));
  if (repair_.ends_header)
    mail::end_header_cleanly(bytes);
  if (repair_.rewriter == nullptr)
    return {};
  const auto old = mail::header_section_size(bytes);
  auto fresh = repair_.rewriter->header(std::string_view(bytes).substr(0, old));
  if (!fresh)
    return lose(fresh.error());
  bytes.replace(0, old, *fresh);
  fresh_header_ = *std::move(fresh);
  return {};
}

Result<void> IncomingBody::append(std::string& bytes) {
  if (!file_.is_open()) {
    id_ = custody_->next_id();
    auto created = custody_->create_body(id_);
    if (!created)
      return lose(created.error());
    file_ = *std::move(created);
  }
  if (auto appended = custody_->append(file_, bytes); !appended)
    return lose(appended.error());
  bytes.clear();
  return {};
}

}  // namespace postrider::smtpd
