#include "daemon/notice_digest.h"

#include "base/file.h"
#include "mail/notice.h"

namespace postrider::daemon {

namespace {

constexpr Duration kLookEvery{2'000};
constexpr Duration kTryEvery{15'000};
constexpr std::size_t kMostOfDigestFile = 4U << 20U;

void log_not_kept(Log& log, const Error& why) {
  log.write(LogEvent(Level::warn, "digest_not_kept").add("error", why.describe()));
}

}  // namespace

DigestReceiver digest_receiver(const delivery::DeliverySettings& settings) {
  return {settings.double_bounce, settings.own.hostname};
}

// A slow thread must not set the file back to what it was before.
void NoticeDigest::File::write(const std::string& path, const std::string& text,
                               std::uint64_t version, Log& log) {
  const std::lock_guard lock(mutex);
  if (version <= last)
    return;
  last = version;
  if (auto written = replace_file(path, text, 0600); !written)
    log_not_kept(log, written.error());
}

NoticeDigest::NoticeDigest(const Clock& clock, OwnMail own_mail, std::string file)
    : clock_(clock), own_mail_(std::move(own_mail)), path_(std::move(file)) {}

void NoticeDigest::load() {
  const auto text = read_file(path_, kMostOfDigestFile);
  if (!text && text.error().code() == boost::system::errc::no_such_file_or_directory)
    return;
  auto kept =
      text ? delivery::DoubleBounces::decode(*text) : Result<delivery::DoubleBounces>(text.error());
  if (kept)
    *bounces_ = *std::move(kept);
  else
    log_not_kept(*own_mail_.log, kept.error().during("read " + path_));
  saved_ = loaded_ = bounces_->version();
}

void NoticeDigest::configure(DigestReceiver receiver) {
  receiver_ = std::move(receiver);
}

void NoticeDigest::start() {
  tick_ = std::make_unique<Deadline>(own_mail_.home->deadlines(), [this] { tick(); });
  tick_->set(kLookEvery);
}

void NoticeDigest::stop() {
  tick_.reset();
}

// Also what the pool was given and may never come to. Twice the same version is written once.
void NoticeDigest::save_now() {
  if (bounces_->version() != loaded_)
    file_->write(path_, bounces_->encode(), bounces_->version(), *own_mail_.log);
}

void NoticeDigest::save() {
  if (std::exchange(saved_, bounces_->version()) == bounces_->version())
    return;
  own_mail_.pool->post([file = file_, path = path_, text = bounces_->encode(), version = saved_,
                        &log = *own_mail_.log] { file->write(path, text, version, log); });
}

void NoticeDigest::tick() {
  tick_->set(kLookEvery);
  save();
  if (is_sending_ || bounces_->due(clock_.now()) == nullptr || clock_.steady() < next_try_)
    return;
  if (receiver_.address.empty())
    return bounces_->forget();
  next_try_ = clock_.steady() + kTryEvery;
  is_sending_ = true;
  own_mail_.home->spawn(send(shared_from_this()), *own_mail_.log, "digest");
}

// What is counted while it is being stored is part of the next one.
Task<void> NoticeDigest::send(std::shared_ptr<NoticeDigest> self) {
  const auto now = clock_.now();
  const auto counted = bounces_->counted();
  const auto id = own_mail_.queue->next_id();
  queue::Submission digest;
  digest.message = mail::notice_message(
      delivery::compose_digest(counted, receiver_.hostname, receiver_.address, id, now), id,
      receiver_.address, now, mail::TlsWish::unspecified);
  const auto stored = co_await submit_own(own_mail_, std::move(digest));
  is_sending_ = false;
  LogEvent event(stored ? Level::info : Level::warn, stored ? "digest_sent" : "digest_waits",
                 mail::to_string(id));
  event.add("to", receiver_.address).add("count", std::to_string(counted.count));
  if (!stored)
    event.add("error", stored.error().describe());
  own_mail_.log->write(std::move(event));
  if (stored)
    bounces_->told(counted, now);
  save();
}

}  // namespace postrider::daemon
