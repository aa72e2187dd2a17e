#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <future>

namespace postrider::queue::test {

namespace {

constexpr auto kPatience = std::chrono::seconds(120);

Task<void> accept_and_tell(Queue& queue, Loop& loop, Submission submission,
                           std::promise<Result<void>>& told) {
  Result<void> result = co_await queue.accept(loop, std::move(submission));
  told.set_value(std::move(result));
}

Task<void> drop_and_tell(Queue& queue, Loop& loop, Submission submission,
                         std::promise<Result<mail::MessageId>>& told) {
  auto result = co_await queue.accept_dropped(loop, std::move(submission));
  told.set_value(std::move(result));
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  const char* base = std::getenv("TMPDIR");
  std::string name = std::string(base == nullptr ? "/tmp" : base) + "/postrider-test-XXXXXX";
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void CollectingLog::write(LogEvent event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
}

std::size_t CollectingLog::count(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  std::size_t found = 0;
  for (const auto& event : events_)
    found += event.name() == name ? 1 : 0;
  return found;
}

std::string CollectingLog::all() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& event : events_) {
    format_text(event, text);
    text += '\n';
  }
  return text;
}

void Hand::take(std::vector<Lease> leases) {
  const std::lock_guard lock(mutex_);
  for (auto& lease : leases)
    leases_.push_back(std::move(lease));
  arrived_.notify_all();
}

void Hand::revoke(std::vector<Revocation> wanted, UnderWay answer) {
  {
    const std::lock_guard lock(mutex_);
    revoked_.insert(revoked_.end(), wanted.begin(), wanted.end());
  }
  ask(std::move(wanted), std::move(answer));
}

void Hand::ask(std::vector<Revocation> wanted, UnderWay answer) {
  for (auto& one : wanted)
    std::erase_if(one.recipients, [this](std::uint32_t index) {
      return std::find(under_way.begin(), under_way.end(), index) == under_way.end();
    });
  answer(std::move(wanted));
}

void Hand::expire(std::vector<Overdue> late) {
  const std::lock_guard lock(mutex_);
  overdue_.insert(overdue_.end(), late.begin(), late.end());
  arrived_.notify_all();
}

std::vector<Overdue> Hand::overdue() {
  const std::lock_guard lock(mutex_);
  return std::exchange(overdue_, {});
}

std::vector<Revocation> Hand::revoked() const {
  const std::lock_guard lock(mutex_);
  return revoked_;
}

Lease Hand::next() {
  std::unique_lock lock(mutex_);
  REQUIRE(arrived_.wait_for(lock, kPatience, [this] { return !leases_.empty(); }));
  Lease lease = std::move(leases_.front());
  leases_.pop_front();
  return lease;
}

Lease Hand::next(mail::MessageId id) {
  std::unique_lock lock(mutex_);
  Lease found;
  REQUIRE(arrived_.wait_for(lock, kPatience, [&] {
    for (auto at = leases_.begin(); at != leases_.end(); ++at)
      if (at->message->id == id) {
        found = std::move(*at);
        leases_.erase(at);
        return true;
      }
    return false;
  }));
  return found;
}

std::size_t Hand::count() const {
  const std::lock_guard lock(mutex_);
  return leases_.size();
}

bool Hand::wait_for(std::size_t leases) {
  std::unique_lock lock(mutex_);
  return arrived_.wait_for(lock, kPatience, [&] { return leases_.size() >= leases; });
}

void Hand::clear() {
  const std::lock_guard lock(mutex_);
  leases_.clear();
}

QueueFixture::QueueFixture() {
  settings.spool = folder.path() + "/spool";
  settings.room_needed = 0;
}

QueueFixture::~QueueFixture() = default;

void QueueFixture::open() {
  auto opened = Queue::open(settings, clock, log);
  INFO((opened ? "" : opened.error().describe()));
  REQUIRE(opened.has_value());
  queue = *std::move(opened);
}

void QueueFixture::reopen() {
  queue.reset();
  hand.clear();
  open();
  start();
}

void QueueFixture::die() {
  const auto copy = folder.path() + "/copy";
  std::filesystem::copy(settings.spool, copy, std::filesystem::copy_options::recursive);
  queue.reset();
  hand.clear();
  std::filesystem::remove_all(settings.spool);
  std::filesystem::rename(copy, settings.spool);
}

mail::Message QueueFixture::make(const std::string& sender,
                                 const std::vector<std::string>& recipients,
                                 const std::string& content) {
  mail::Message message;
  message.id = queue->next_id();
  message.received = clock.now();
  message.envelope.sender = sender;
  for (const auto& recipient : recipients) {
    mail::Recipient each;
    each.address = recipient;
    message.envelope.recipients.push_back(each);
  }
  message.content.trace = "Received: by mx.test\r\n";
  message.content.bytes = std::make_shared<const std::string>(content);
  message.content.size = content.size();
  message.origin = {"client.test[192.0.2.1]", "ESMTP"};
  if (logs_in)
    message.origin.user = sender;
  return message;
}

Submission QueueFixture::large(std::size_t size, const std::string& sender) {
  auto message = make(sender, {"c@large.test"});
  Submission submission;
  submission.body = queue->create_body(message.id).value();
  REQUIRE(submission.body.append(std::string(size, 'x')).has_value());
  message.content.bytes = nullptr;
  message.content.file = submission.body.name();
  message.content.size = size;
  submission.message = std::make_shared<const mail::Message>(std::move(message));
  return submission;
}

Result<void> QueueFixture::accept(Submission submission) {
  std::promise<Result<void>> told;
  auto answer = told.get_future();
  loop.loop.post([&] {
    loop.loop.spawn(accept_and_tell(*queue, loop.loop, std::move(submission), told), log, "accept");
  });
  REQUIRE(answer.wait_for(kPatience) == std::future_status::ready);
  return answer.get();
}

Result<mail::MessageId> QueueFixture::accept_dropped(Submission submission) {
  std::promise<Result<mail::MessageId>> told;
  auto answer = told.get_future();
  loop.loop.post([&] {
    loop.loop.spawn(drop_and_tell(*queue, loop.loop, std::move(submission), told), log, "accept");
  });
  REQUIRE(answer.wait_for(kPatience) == std::future_status::ready);
  return answer.get();
}

Result<void> QueueFixture::accept(mail::Message message) {
  Submission submission;
  submission.message = std::make_shared<const mail::Message>(std::move(message));
  return accept(std::move(submission));
}

mail::MessageId QueueFixture::must_accept(const std::string& sender,
                                          const std::vector<std::string>& recipients) {
  auto message = make(sender, recipients);
  const auto id = message.id;
  auto accepted = accept(std::move(message));
  INFO((accepted ? "" : accepted.error().describe()));
  REQUIRE(accepted.has_value());
  return id;
}

std::vector<ListedMessage> QueueFixture::list(const Filter& filter) {
  auto listed = queue->list(filter, {}, 1000);
  INFO((listed ? "" : listed.error().describe()));
  REQUIRE(listed.has_value());
  return *std::move(listed);
}

Changed QueueFixture::change(Verb verb, const Filter& filter, bool dry_run) {
  std::promise<Result<Changed>> told;
  auto answer = told.get_future();
  queue->change(verb, filter, dry_run,
                [&](Result<Changed> changed) { told.set_value(std::move(changed)); });
  REQUIRE(answer.wait_for(kPatience) == std::future_status::ready);
  auto changed = answer.get();
  INFO((changed ? "" : changed.error().describe()));
  REQUIRE(changed.has_value());
  return *changed;
}

void QueueFixture::record(Record record) {
  std::vector<Record> records;
  records.push_back(std::move(record));
  queue->record(std::move(records));
  settle();
}

void QueueFixture::settle() {
  Filter nothing;
  nothing.ids = {mail::MessageId{1}};
  change(Verb::retry, nothing, true);
}

mail::Outcome outcome(mail::Verdict verdict, const std::string& text) {
  mail::Outcome made;
  made.verdict = verdict;
  made.stage = mail::Stage::rcpt;
  made.status = {static_cast<std::uint8_t>(verdict == mail::Verdict::delivered ? 2
                                           : verdict == mail::Verdict::retry   ? 4
                                                                               : 5),
                 0, 0};
  made.remote = "mx.test[192.0.2.9]:25";
  made.text = text;
  return made;
}

Record answer(const Lease& lease, mail::Verdict verdict, TimePoint next) {
  Record record;
  record.id = lease.message->id;
  record.lease = lease.number;
  for (const auto& recipient : lease.recipients)
    record.results.push_back({recipient.index, outcome(verdict), next});
  return record;
}

Record untried(const Lease& lease) {
  Record record;
  record.id = lease.message->id;
  record.lease = lease.number;
  for (const auto& recipient : lease.recipients)
    record.untried.push_back(recipient.index);
  return record;
}

}  // namespace postrider::queue::test
