#include "daemon/predecessor/old_mail_taker.h"

#include "base/digest.h"
#include "base/text.h"
#include "daemon/pickup/submit_builder.h"
#include "daemon/predecessor/exim_file.h"
#include "daemon/predecessor/field_filter.h"
#include "daemon/predecessor/postfix_file.h"
#include "mail/body_reader.h"
#include "mail/header.h"
#include "queue/key_id.h"

#include <algorithm>
#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr std::size_t kShown = 10;
constexpr std::size_t kMostOfHeader = 1U << 20U;
constexpr std::size_t kMostShownAddress = 320;

Result<OldFile> file_of(const FileDescriptor& descriptor) {
  struct stat about {};
  if (::fstat(descriptor.get(), &about) != 0)
    return system_error("look at it");
  const int number = descriptor.get();
  return OldFile{static_cast<std::uint64_t>(about.st_size),
                 [number](std::uint64_t at, char* room, std::size_t most) -> Result<std::size_t> {
                   for (;;) {
                     const auto got = ::pread(number, room, most, static_cast<off_t>(at));
                     if (got >= 0)
                       return static_cast<std::size_t>(got);
                     if (errno != EINTR)
                       return system_error("read");
                   }
                 }};
}

// Makes content of the old one that which we keep: CRLF line ends, no NUL.
class OldContentCopy {
 public:
  explicit OldContentCopy(IntakeContent& content) : content_(content) {}

  Result<void> feed(std::string_view raw) {
    cleaned_.clear();
    cleaner_.feed(raw, cleaned_);
    return take();
  }
  Result<void> finish() {
    cleaned_.clear();
    cleaner_.finish(cleaned_);
    if (auto taken = take(); !taken)
      return taken;
    chunks_.finish();
    return content_.finish();
  }
  const mail::BodyFacts& facts() const { return chunks_.facts(); }
  mail::HeaderFacts header() const { return mail::header_facts(beginning_); }

 private:
  Result<void> take() {
    beginning_.append(cleaned_, 0, kMostOfHeader - std::min(kMostOfHeader, beginning_.size()));
    kept_.clear();
    chunks_.feed(cleaned_, kept_);
    return content_.append(kept_);
  }

  IntakeContent& content_;
  mail::LineEndCleaner cleaner_;
  mail::ChunkReader chunks_;
  std::string cleaned_, kept_, beginning_;
};

void describe(const OldMessage& message, TakenOver& taken) {
  taken.recipients = message.waiting();
  taken.done = message.done;
  taken.hold = escaped(message.hold, 200);
  if (!message.envelopes.empty())
    taken.sender = escaped(message.envelopes.front().sender, kMostShownAddress);
  for (const auto& envelope : message.envelopes)
    for (const auto& recipient : envelope.recipients)
      if (taken.to.size() < kShown)
        taken.to.push_back(escaped(recipient.address, kMostShownAddress));
  if (taken.recipients > 0)
    for (const auto& address : message.behind)
      if (taken.behind.size() < kShown)
        taken.behind.push_back(escaped(address, kMostShownAddress));
}

TakenOver ended(TakenOver taken, const Error& error) {
  const bool is_its_fault = error.code() == Errc::malformed || error.code() == Errc::too_long ||
                            error.code() == Errc::refused;
  taken.end = is_its_fault ? TakenOver::End::refused : TakenOver::End::failed;
  taken.reason = is_its_fault ? error.step() : error.describe();
  return taken;
}

std::int64_t seconds_of(TimePoint when) {
  return std::chrono::floor<std::chrono::seconds>(when).time_since_epoch().count();
}

}  // namespace

OldMailTaker::OldMailTaker(queue::Queue* queue, const Clock& clock, Settings settings, Log& log)
    : queue_(queue), clock_(clock), settings_(std::move(settings)) {
  if (queue_ != nullptr)
    intake_ = std::make_unique<OfflineIntake>(*queue_, log, 0U);
}

TakenOver OldMailTaker::take(const OldMailOrder& order, std::vector<FileDescriptor> files) {
  TakenOver taken;
  std::vector<OldFile> opened;
  for (const auto& descriptor : files) {
    auto file = file_of(descriptor);
    if (!file)
      return ended(std::move(taken), file.error());
    opened.push_back(*std::move(file));
  }
  auto source = open(order, opened);
  if (!source)
    return ended(std::move(taken), source.error());
  auto& message = source->message;
  if (message.hold.empty() && order.is_held)
    message.hold = std::string("it was held in ") + name_of(settings_.whose);
  describe(message, taken);
  taken.received = seconds_of(received(order, message));
  if (!message.never.empty()) {
    taken.end = TakenOver::End::left;
    taken.reason = message.never;
    return taken;
  }
  if (message.envelopes.empty()) {
    taken.end = TakenOver::End::empty;
    return taken;
  }
  taken.end = TakenOver::End::taken;
  auto done = queue_ == nullptr ? read_to_end(*source, taken) : store(order, *source, taken);
  return done ? taken : ended(std::move(taken), done.error());
}

void OldMailTaker::forget(std::vector<std::string> drop_ids) {
  if (queue_ != nullptr)
    queue_->forget_dropped(std::move(drop_ids));
}

Result<OldMailTaker::Source> OldMailTaker::open_postfix(const OldMailOrder& order,
                                                        const std::vector<OldFile>& files) const {
  auto log = order.has_more ? read_whole(files[1], kMostBounceLog) : Result<std::string>("");
  if (!log)
    return log.error().during("the list of failures");
  auto failed = std::make_shared<const std::set<std::string>>(read_bounce_log(*log));
  const PostfixRules rules{order.is_dropped, settings_.origin, failed.get()};
  auto message = read_postfix_file(files[0], rules);
  if (!message)
    return message.error();
  return Source{*std::move(message), std::move(failed),
                [&file = files[0], rules](const OnOldContent& on_content) {
                  const auto again = read_postfix_file(file, rules, on_content);
                  return again ? Result<void>() : again.error();
                }};
}

Result<OldMailTaker::Source> OldMailTaker::open(const OldMailOrder& order,
                                                const std::vector<OldFile>& files) const {
  const bool is_postfix = settings_.whose == Predecessor::postfix;
  if (files.size() != (is_postfix ? 1U : 2U) + (order.has_more ? 1U : 0U))
    return malformed("files");
  if (is_postfix)
    return open_postfix(order, files);
  auto text = read_whole(files[0], kMostEximHeader);
  if (!text)
    return text.error();
  auto journal =
      order.has_more ? read_whole(files[2], kMostEximHeader) : Result<std::string>(std::string());
  if (!journal)
    return journal.error();
  auto header = read_exim_header(*text, order.id, *journal, settings_.origin);
  if (!header)
    return header.error();
  return Source{std::move(header->message), nullptr,
                [&file = files[1], id = order.id,
                 fields = std::move(header->header)](const OnOldContent& on_content) {
                  return read_exim_content(fields, file, id, on_content);
                }};
}

// Of a dry run: what is damaged is found too.
Result<void> OldMailTaker::read_to_end(const Source& source, TakenOver& taken) const {
  return source.content([&taken](std::string_view piece) -> Result<void> {
    taken.size += piece.size();
    return {};
  });
}

// Of one envelope. The sender tells it from the others, however many are left of them.
std::string OldMailTaker::drop_id_of(const OldMailOrder& order, std::int64_t when,
                                     const std::string& sender) const {
  return std::string(queue::kOldMailIds) + name_of(settings_.whose) + "." + order.id + "." +
         std::to_string(when) + "." + encode_hex(sha256(sender)).substr(0, 32);
}

Result<void> OldMailTaker::store(const OldMailOrder& order, const Source& source,
                                 TakenOver& taken) {
  bool is_new = false;
  const auto when = received(order, source.message).time_since_epoch().count();
  for (std::size_t i = 0; i < source.message.envelopes.size(); ++i) {
    auto submission = submission_of(order, source, source.message.envelopes[i]);
    if (!submission)
      return submission.error();
    const auto own = submission->message->id;
    taken.size = submission->message->content.size;
    submission->hold = source.message.hold;
    submission->drop_id = drop_id_of(order, when, source.message.envelopes[i].sender);
    taken.drop_ids.push_back(submission->drop_id);
    const auto id = intake_->accept(*std::move(submission));
    if (!id)
      return id.error();
    is_new = is_new || *id == own;
    taken.ids.push_back(to_string(*id));
  }
  taken.end = is_new ? TakenOver::End::taken : TakenOver::End::known;
  return {};
}

Result<queue::Submission> OldMailTaker::submission_of(const OldMailOrder& order,
                                                      const Source& source,
                                                      mail::Envelope envelope) {
  if (order.is_dropped)
    return complete(order, source, std::move(envelope));
  auto message = std::make_shared<mail::Message>();
  message->id = queue_->next_id();
  message->received = received(order, source.message);
  message->origin = source.message.origin;
  message->envelope = std::move(envelope);
  IntakeContent bytes(*queue_, message->id);
  OldContentCopy copy(bytes);
  if (auto done = source.content([&copy](std::string_view piece) { return copy.feed(piece); });
      !done)
    return done.error();
  if (auto done = copy.finish(); !done)
    return done.error();
  auto& content = message->content;
  const auto& facts = copy.facts();
  content.has_8bit = facts.has_8bit;
  content.has_8bit_header = facts.has_8bit_header;
  content.longest_line = facts.longest_line;
  content.ends_with_crlf = facts.ends_with_crlf;
  auto& form = message->envelope;
  if (facts.has_8bit && form.body == mail::BodyType::seven_bit)
    form.body = mail::BodyType::eight_bit_mime;
  if (form.tls == mail::TlsWish::unspecified && copy.header().tls_not_required)
    form.tls = mail::TlsWish::optional;
  queue::Submission submission;
  bytes.move_to(content, submission);
  submission.message = std::move(message);
  return submission;
}

// What sendmail of the old one was given goes the way of what ours is given.
Result<queue::Submission> OldMailTaker::complete(const OldMailOrder& order, const Source& source,
                                                 mail::Envelope envelope) {
  SubmitSettings settings;
  settings.hostname = settings_.hostname;
  settings.origin = settings_.origin;
  SubmitHeader header;
  header.sender = envelope.sender;
  header.author = envelope.sender;
  header.full_name = source.message.full_name;
  SubmissionBuilder builder(*queue_, settings, std::move(header), std::move(envelope), order.uid,
                            queue_->next_id());
  BccFilter filter;
  std::string passed;
  if (auto done = source.content([&](std::string_view piece) {
        passed.clear();
        filter.feed(piece, passed);
        builder.read(passed);
        return builder.spill();
      });
      !done)
    return done.error();
  passed.clear();
  filter.finish(passed);
  builder.read(passed);
  builder.end();
  return builder.finish(received(order, source.message));
}

// No message has come from the future.
TimePoint OldMailTaker::received(const OldMailOrder& order, const OldMessage& message) const {
  const auto when = message.received.value_or(
      TimePoint(std::chrono::seconds(std::max<std::int64_t>(order.modified, 0))));
  return std::min(when, clock_.now());
}

}  // namespace postrider::daemon
