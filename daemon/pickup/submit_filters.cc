#include "daemon/pickup/submit_filters.h"

#include "base/text.h"
#include "mail/header.h"
#include "smtpd/complete_content.h"
#include "smtpd/filter/mail_filter.h"

#include <memory>
#include <string>
#include <utility>

namespace postrider::daemon {

namespace {

using smtpd::filter::Verdict;

// As much as a header section of local mail may have.
constexpr std::size_t kMostSection = 2U << 20U;

smtpd::filter::Facts facts_of(const SubmitSettings& settings, std::uint64_t uid,
                              mail::MessageId id) {
  smtpd::filter::Facts facts;
  facts.session = "sendmail";
  facts.hostname = settings.hostname;
  facts.role = smtpd::Role::submission;
  facts.client.address = *IpAddress::parse("127.0.0.1");
  facts.client.local_user = static_cast<std::uint32_t>(uid);
  facts.client.trusted = true;
  facts.is_sendmail = true;
  facts.message = id;
  facts.helo = settings.hostname;
  facts.protocol = "local";
  return facts;
}

// The beginning of the content, with all of its header section.
Result<std::string> beginning_of(const queue::Submission& submission) {
  if (!submission.body.is_open())
    return *submission.message->content.bytes;
  std::string bytes(kMostSection, '\0');
  auto got = submission.body.read(0, bytes.data(), bytes.size());
  if (!got)
    return got.error();
  bytes.resize(*got);
  return bytes;
}

// The fields at the start of `bytes`, without the empty line.
std::string_view fields_of(std::string_view bytes) {
  mail::HeaderScanner scanner(bytes);
  mail::HeaderField field;
  while (scanner.next(field)) {
  }
  return bytes.substr(0, scanner.consumed());
}

// Our Received field, which filters are not shown.
std::string_view received_of(std::string_view trace) {
  mail::HeaderScanner scanner(trace);
  mail::HeaderField field;
  return scanner.next(field) ? field.whole : std::string_view();
}

}  // namespace

SubmitFilters::SubmitFilters(Loop& loop, queue::Queue& queue, const Clock& clock, Log& log)
    : loop_(loop), queue_(queue), clock_(clock), log_(log) {}

void SubmitFilters::give_up() {
  has_given_up_ = true;
  for (auto* chain : open_)
    chain->give_up();
}

// One message on its way through them.
struct SubmitFilters::Pass {
  Pass(SubmitFilters& all, const SubmitSettings& settings, std::uint64_t uid,
       const queue::Submission& submission)
      : owner(all),
        custody(all.queue_),
        facts(facts_of(settings, uid, submission.message->id)),
        around{all.loop_, all.clock_, all.log_},
        chain(settings.filters, facts, around),
        envelope(submission.message->envelope),
        place(all.open_.insert(all.open_.end(), &chain)) {}
  ~Pass() { owner.open_.erase(place); }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  Task<Verdict> tell_envelope();
  Task<Result<Verdict>> show(queue::Submission& submission);
  Task<Result<void>> show_body(smtpd::CompleteContent& content);
  Task<Result<void>> adopt(queue::Submission& submission, smtpd::CompleteContent& content,
                           smtpd::filter::Ending& ending);

  SubmitFilters& owner;
  smtpd::QueueCustody custody;
  smtpd::filter::Facts facts;
  smtpd::filter::Surroundings around;
  smtpd::filter::Chain chain;
  mail::Envelope envelope;
  const std::list<smtpd::filter::Chain*>::iterator place;
};

// One recipient that is refused is all of the message: nobody is there to hear of it later.
Task<Verdict> SubmitFilters::Pass::tell_envelope() {
  auto verdict = co_await chain.connect();
  if (!verdict.refuses())
    verdict = co_await chain.helo();
  if (!verdict.refuses())
    verdict = co_await chain.mail(envelope);
  for (std::size_t i = 0; !verdict.refuses() && i < envelope.recipients.size(); ++i)
    verdict = co_await chain.recipient(envelope.recipients[i]);
  if (!verdict.refuses())
    verdict = co_await chain.data(envelope);
  co_return verdict;
}

Task<Result<void>> SubmitFilters::Pass::show_body(smtpd::CompleteContent& content) {
  std::uint64_t at = 0;
  while (chain.wants_body()) {
    const auto piece = content.read(at);
    if (!piece)
      co_return piece.error();
    if (piece->empty())
      break;
    at += piece->size();
    co_await chain.body(*piece);
  }
  co_return Result<void>();
}

Task<Result<Verdict>> SubmitFilters::Pass::show(queue::Submission& submission) {
  auto verdict = co_await tell_envelope();
  if (verdict.refuses())
    co_return verdict;
  auto beginning = beginning_of(submission);
  if (!beginning)
    co_return beginning.error();
  const auto& message = *submission.message;
  const std::string_view trace = message.content.trace;
  const auto received = received_of(trace);
  const std::string shown =
      std::string(fields_of(trace.substr(received.size()))) + std::string(fields_of(*beginning));
  const auto body_at = mail::header_section_size(*beginning);
  std::string bytes = submission.body.is_open() ? std::string() : *std::move(beginning);
  smtpd::CompleteContent content(
      custody, message.id,
      smtpd::FinishedBody(std::move(bytes), std::move(submission.body), message.content.size),
      body_at);
  auto section = shown;
  co_await chain.header(envelope, section);
  if (auto done = co_await show_body(content); !done)
    co_return done.error();
  smtpd::filter::Ending ending{message.id, envelope, section, content};
  ending.has_changed = section != shown;
  verdict = co_await chain.end(ending);
  if (verdict.kind != Verdict::Kind::go_on)
    co_return verdict;
  if (auto done = co_await adopt(submission, content, ending); !done)
    co_return done.error();
  co_return verdict;
}

Task<Result<void>> SubmitFilters::Pass::adopt(queue::Submission& submission,
                                              smtpd::CompleteContent& content,
                                              smtpd::filter::Ending& ending) {
  auto message = std::make_shared<mail::Message>(*submission.message);
  message->envelope = envelope;
  auto& kept = message->content;
  kept.bytes.reset();
  if (!is_ascii(ending.on_top))
    kept.has_8bit = kept.has_8bit_header = true;
  if (ending.has_changed) {
    auto changed = co_await content.finish(owner.loop_, ending.header);
    if (!changed)
      co_return changed.error();
    kept.trace = ending.on_top + std::string(received_of(kept.trace));
    changed->describe_changes(*message);
    changed->describe(kept);
    submission.body = changed->take_file();
  } else {
    auto unchanged = content.finish_unchanged();
    kept.trace.insert(0, ending.on_top);
    unchanged.describe(kept);
    submission.body = unchanged.take_file();
  }
  submission.hold = ending.hold;
  submission.message = std::move(message);
  co_return Result<void>();
}

Task<Result<Verdict>> SubmitFilters::pass(const SubmitSettings& settings, std::uint64_t uid,
                                          queue::Submission& submission) {
  if (settings.filters.empty())
    co_return Verdict{};
  Pass pass(*this, settings, uid, submission);
  if (has_given_up_)
    pass.chain.give_up();
  if (pass.chain.empty())
    co_return Verdict{};
  auto verdict = co_await pass.show(submission);
  pass.chain.abort();
  co_return verdict;
}

}  // namespace postrider::daemon
