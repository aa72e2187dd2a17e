// What delivery needs of the queue, as an interface, so that tests can watch it.
#pragma once

#include "queue/queue.h"

#include <string>
#include <vector>

namespace postrider::delivery {

// Thread-safe.
class QueuePort {
 public:
  virtual ~QueuePort() = default;
  virtual void record(std::vector<queue::Record> records) = 0;
  virtual void set_site(queue::SiteState state) = 0;
  virtual void assign_site(std::string domain, std::string site) = 0;
  virtual mail::MessageId next_id() = 0;
  // A damaged body is held for the administrator (attacks.md I12).
  virtual Result<FileDescriptor> open_body(const mail::Message& message) = 0;
  // For a copy of a large body that a new message needs.
  virtual Result<queue::BodyFile> create_body(mail::MessageId id) = 0;
};

class QueueCustody : public QueuePort {
 public:
  explicit QueueCustody(queue::Queue& queue) : queue_(queue) {}
  void record(std::vector<queue::Record> records) override { queue_.record(std::move(records)); }
  void set_site(queue::SiteState state) override { queue_.set_site(std::move(state)); }
  void assign_site(std::string domain, std::string site) override {
    queue_.assign_site(std::move(domain), std::move(site));
  }
  mail::MessageId next_id() override { return queue_.next_id(); }
  Result<FileDescriptor> open_body(const mail::Message& message) override {
    auto file = queue_.open_body(message);
    if (!file && file.error().code() == make_error_code(Errc::corrupt))
      queue_.quarantine(message.id, file.error().describe());
    return file;
  }
  Result<queue::BodyFile> create_body(mail::MessageId id) override {
    return queue_.create_body(id);
  }

 private:
  queue::Queue& queue_;
};

}  // namespace postrider::delivery
