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

LogEvent accepted_line(const mail::Message& message, unsigned uid) {
  const auto& envelope = message.envelope;
  LogEvent line(Level::info, "accepted", to_string(message.id));
  line.add("protocol", "import").add("from", envelope.sender);
  line.add("nrcpt", std::to_string(envelope.recipients.size()));
  if (!envelope.recipients.empty())
    line.add("to", envelope.recipients.front().address);
  line.add("size", std::to_string(message.content.size)).add("uid", std::to_string(uid));
  if (!envelope.envelope_id.empty())
    line.add("dsn_id", envelope.envelope_id);
  if (!message.origin.trace_parent.empty())
    line.add("traceparent", message.origin.trace_parent);
  return line;
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

OfflineIntake::OfflineIntake(queue::Queue& queue, Log& log, unsigned uid)
    : queue_(queue), log_(log), uid_(uid), thread_([this] { loop_.run(); }) {}

OfflineIntake::~OfflineIntake() {
  loop_.finish();
  thread_.join();
}

Result<mail::MessageId> OfflineIntake::accept(queue::Submission submission) {
  auto stored = std::make_shared<Stored>();
  auto answer = stored->get_future();
  const auto message = submission.message;
  auto line = accepted_line(*message, uid_);
  submission.line = queue::encode_line(line);
  auto shared = std::make_shared<queue::Submission>(std::move(submission));
  loop_.post([this, shared, stored] {
    loop_.spawn(accept_it(queue_, loop_, std::move(*shared), stored), log_, "import");
  });
  auto accepted = answer.get();
  if (accepted && *accepted == message->id)
    log_.write(std::move(line));
  return accepted;
}

}  // namespace postrider::daemon
