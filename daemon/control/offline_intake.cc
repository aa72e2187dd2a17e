#include "daemon/control/offline_intake.h"

#include <future>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr std::size_t kKeptInMemory = 64U << 10U;  // as in every other way into the queue

using Stored = std::promise<Result<mail::MessageId>>;

Task<void> accept_it(queue::Queue& queue, Loop& loop, queue::Submission submission,
                     std::shared_ptr<Stored> stored) {
  Result<mail::MessageId> accepted = co_await queue.accept_dropped(loop, std::move(submission));
  stored->set_value(std::move(accepted));
}

}  // namespace

Result<void> IntakeContent::append(std::string_view bytes) {
  size_ += bytes.size();
  bytes_.append(bytes);
  if (bytes_.size() > kKeptInMemory)
    return move_to_file();
  return {};
}

Result<void> IntakeContent::move_to_file() {
  if (!body_.is_open()) {
    auto body = queue_.create_body(id_);
    if (!body)
      return body.error();
    body_ = *std::move(body);
  }
  return body_.append(std::exchange(bytes_, {}));
}

Result<void> IntakeContent::finish() {
  return body_.is_open() && !bytes_.empty() ? move_to_file() : Result<void>();
}

void IntakeContent::move_to(mail::Content& content, queue::Submission& submission) {
  content.size = size_;
  if (body_.is_open())
    content.file = body_.name();
  else
    content.bytes = std::make_shared<const std::string>(std::move(bytes_));
  submission.body = std::move(body_);
}

OfflineIntake::OfflineIntake(queue::Queue& queue)
    : queue_(queue), thread_([this] { loop_.run(); }) {}

OfflineIntake::~OfflineIntake() {
  loop_.finish();
  thread_.join();
}

Result<mail::MessageId> OfflineIntake::accept(queue::Submission submission) {
  auto stored = std::make_shared<Stored>();
  auto answer = stored->get_future();
  auto shared = std::make_shared<queue::Submission>(std::move(submission));
  loop_.post([this, shared, stored] {
    loop_.spawn(accept_it(queue_, loop_, std::move(*shared), stored), log_, "import");
  });
  return answer.get();
}

}  // namespace postrider::daemon
