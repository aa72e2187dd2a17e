// What receiving needs of the queue, so that tests can put a full disk or a broken one in its
// place.
#pragma once

#include "queue/queue.h"

namespace postrider::smtpd {

class MessageStore {
 public:
  virtual ~MessageStore() = default;
  virtual queue::Admission admission() const = 0;
  virtual mail::MessageId next_id() = 0;
  virtual bool keeps_facts() const { return false; }  // somebody wants the line of `accepted`
  virtual Result<queue::BodyFile> create_body(mail::MessageId id) = 0;
  virtual Result<void> append(queue::BodyFile& body, std::string_view bytes) = 0;
  virtual Task<Result<void>> accept(Loop& loop, queue::Submission submission) = 0;
};

class QueueCustody : public MessageStore {
 public:
  explicit QueueCustody(queue::Queue& queue) : queue_(queue) {}
  queue::Admission admission() const override { return queue_.admission(); }
  mail::MessageId next_id() override { return queue_.next_id(); }
  bool keeps_facts() const override { return queue_.keeps_facts(); }
  Result<queue::BodyFile> create_body(mail::MessageId id) override {
    return queue_.create_body(id);
  }
  Result<void> append(queue::BodyFile& body, std::string_view bytes) override {
    return body.append(bytes);
  }
  Task<Result<void>> accept(Loop& loop, queue::Submission submission) override {
    return queue_.accept(loop, std::move(submission));
  }

 private:
  queue::Queue& queue_;
};

}  // namespace postrider::smtpd
