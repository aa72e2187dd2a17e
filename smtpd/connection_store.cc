// The part of a connection that hands messages to the queue: the body on its way, the message as it
// is kept, and what the client hears when that fails.
#include "base/text.h"
#include "mail/header.h"
#include "smtpd/complete_content.h"
#include "smtpd/connection_filter.h"
#include "smtpd/session/sending_rights.h"
#include "smtpd/tls_wish.h"

#include <algorithm>
#include <cerrno>
#include <optional>

namespace postrider::smtpd {

namespace {

// What one message may hold in memory while all of them hold much.
constexpr std::size_t kMostWhenTight = 4U << 10U;

bool is_no_room(const Error& error) {
  return error.code() == boost::system::errc::no_space_on_device ||
         error.code() == boost::system::errc::not_enough_memory ||
         (error.code().category() == boost::system::system_category() &&
          error.code().value() == EDQUOT);
}

}  // namespace

// Beyond what may stay in memory, content goes to its file as it arrives. What has to stay there as
// a whole, a header section, is given up by whoever keeps more than a share of it.
void Connection::keep_large_content() {
  auto* intake = talk_->intake();
  if (intake == nullptr || !intake->is_wanted()) {
    body_ = IncomingBody();
    return;
  }
  auto& body = body_of_message();
  const bool is_tight = is_over_share_ || reception_->is_tight();
  const auto most = is_tight ? kMostWhenTight : IncomingContent::kMostInMemory;
  if (intake->bytes().size() <= most)
    return;
  if (body.awaits_header() && !intake->header().has_ended()) {
    if (is_over_share_)
      storage_trouble(
          *intake,
          Error(boost::system::errc::make_error_code(boost::system::errc::not_enough_memory),
                "the header section is beyond its client's share of memory"));
    return;
  }
  if (body.waits_for_tables(intake->bytes()))
    return;
  if (auto spilled = body.spill(intake->bytes()); !spilled)
    storage_trouble(*intake, spilled.error());
  else if (is_tight)
    std::string().swap(intake->bytes());
  if (filtering_ != nullptr)
    filtering_->shown = 0;
}

// One read may end a message and begin another: what was kept of the former is not the latter's.
IncomingBody& Connection::body_of_message() {
  if (body_.number() != talk_->messages_begun()) {
    IncomingBody::Repair repair;
    repair.ends_header = talk_->session().facts().role == Role::submission;
    const auto& rewriter = settings_->rewriter;
    if (repair.ends_header && rewriter && rewriter->changes_headers())
      repair.rewriter = rewriter;
    if (SendingRights(talk_->session().facts()).checks_authors())
      repair.judge = [this](std::string_view header) {
        return SendingRights(talk_->session().facts()).may_write_as(header);
      };
    repair.is_filtered = filtering_ != nullptr;
    if (repair.is_filtered && filtering_->facts.message.value != 0)
      repair.id = filtering_->facts.message;
    if (repair.is_filtered && repair.ends_header)
      repair.completion = [this] { return missing_fields(body_.reserve_id()); };
    body_ = IncomingBody(reception_->custody(), talk_->messages_begun(), repair);
  }
  return body_;
}

// A client does not pay for the time that we take over its content.
void Connection::excuse_since(SteadyTime began) {
  if (content_began_ != SteadyTime{})
    content_began_ += reception_->clock().steady() - began;
}

// As look_up(): the session waits, and nobody else on this loop. One client's at a time: a table
// that hangs leaves threads to the others.
Task<void> Connection::rewrite_header() {
  stream_.clear_deadline();  // what there is to do is ours
  const auto began = reception_->clock().steady();
  auto& bytes = talk_->intake()->bytes();
  const auto answer = std::make_shared<std::optional<Result<std::string>>>();
  bool is_answered = false;
  if (!has_given_up_) {
    Lookups::Job job;
    job.key = "header of " + client_.address.str();
    job.is_own = true;
    job.ask = [answer, question = body_.header_question(bytes)] { *answer = question(); };
    lookup_ = std::make_shared<Lookups::Wait>();
    is_answered = co_await reception_->lookups().run(reception_->loop(), lookup_, timeouts().lookup,
                                                     std::move(job));
    lookup_.reset();
  }
  if (is_answered && *answer)
    body_.rewritten(bytes, std::move(**answer));
  else
    body_.rewritten(bytes, Error(Errc::storage, "rewrite the header: the tables do not answer"));
  excuse_since(began);
}

Storage Connection::storage_trouble(IncomingContent& intake, const Error& error) {
  auto& heard = error.code() == boost::system::errc::not_enough_memory ? log() : reception_->log();
  maillog::trouble(heard, talk_->session().facts().id, "write message body", error);
  const auto state = is_no_room(error) ? Storage::no_room : Storage::failed;
  intake.storage_failed(state);
  body_ = IncomingBody();
  return state;
}

Task<SessionFramer::Need> Connection::store() {
  stream_.clear_deadline();  // the client has done its part
  co_await await_name();
  auto& intake = *talk_->intake();
  auto& replies = buffer_->replies;
  // What failed in the read that brought the end, the session does not know yet.
  if (const auto storage = intake.summary().storage; storage != Storage::open)
    co_return talk_->stored(storage, {}, replies);
  auto& body = body_of_message();
  if (filtering_ == nullptr || body.is_refused())
    co_return co_await keep(intake, body);
  co_return co_await filter_and_keep(intake, body);
}

Task<SessionFramer::Need> Connection::keep(IncomingContent& intake, IncomingBody& body) {
  auto& replies = buffer_->replies;
  if (body.waits_for_tables(intake.bytes()))
    co_await rewrite_header();
  auto finished = body.finish(std::exchange(intake.bytes(), {}), intake.facts().size);
  if (!finished)
    co_return talk_->stored(storage_trouble(intake, finished.error()), {}, replies);
  const auto id = body.id();
  const bool is_refused = body.is_refused();
  body_ = IncomingBody();
  if (is_refused)
    co_return talk_->stored(Storage::refused, {}, replies);
  co_return co_await hand_over(intake, id, *finished, {});
}

// What the filters want changed is part of the message before it is ours.
Task<SessionFramer::Need> Connection::filter_and_keep(IncomingContent& intake, IncomingBody& body) {
  auto& replies = buffer_->replies;
  auto finished = body.finish(std::exchange(intake.bytes(), {}), intake.facts().size);
  if (!finished)
    co_return talk_->stored(storage_trouble(intake, finished.error()), {}, replies);
  const auto id = body.id();
  body_ = IncomingBody();
  CompleteContent content(reception_->custody(), id, *std::move(finished), filtering_->body_at);
  auto section = std::exchange(filtering_->section, {});
  filter::Ending ending{id, talk_->session().envelope_to_change(), section, content};
  filter::Verdict verdict;
  if (!co_await end_filters(ending, verdict)) {
    is_left_ = true;
    co_return SessionFramer::Need::close;
  }
  if (verdict.refuses())
    co_return talk_->refused(std::move(verdict), replies);
  if (verdict.kind == filter::Verdict::Kind::discard) {
    maillog::discarded(reception_->log(), talk_->session(), id);
    co_return talk_->stored(Storage::open, id, replies);
  }
  if (!ending.has_changed) {
    auto unchanged = content.finish_unchanged();
    co_return co_await hand_over(intake, id, unchanged, {ending.on_top, ending.hold});
  }
  auto changed = co_await content.finish(reception_->loop(), std::move(section));
  if (!changed)
    co_return talk_->stored(storage_trouble(intake, changed.error()), {}, replies);
  co_return co_await hand_over(intake, id, *changed, {ending.on_top, ending.hold});
}

Task<SessionFramer::Need> Connection::hand_over(IncomingContent& intake, mail::MessageId id,
                                                FinishedBody& body, const Added& added) {
  auto& replies = buffer_->replies;
  const auto header_message_id = intake.header().message_id();
  queue::Submission submission;
  auto message = compose_message(intake, id, body, added.on_top);
  submission.message = message;
  submission.body = body.take_file();
  submission.hold = added.hold;
  auto& custody = reception_->custody();
  auto& log = reception_->log();
  const bool is_fact = custody.keeps_facts();
  std::optional<LogEvent> line;
  if (log.enabled(Level::info) || is_fact)
    line = maillog::accepted(talk_->session(), *message, header_message_id);
  if (is_fact)
    submission.line = queue::encode_line(*line);
  auto accepted = co_await custody.accept(reception_->loop(), std::move(submission));
  if (accepted) {
    ++summary_.messages;
    count(reception_->counters().messages);
    count(reception_->counters().recipients, message->envelope.recipients.size());
    count(reception_->counters().bytes, message->content.size);
    if (line && log.enabled(Level::info))
      log.write(*std::move(line));
    co_return talk_->stored(Storage::open, id, replies);
  }
  const auto error = accepted.error();
  maillog::trouble(reception_->log(), talk_->session().facts().id, "store message", error);
  refresh_conditions();
  const bool no_room =
      is_no_room(error) || talk_->session().conditions().storage == Storage::no_room;
  co_return talk_->stored(no_room ? Storage::no_room : Storage::failed, id, replies);
}

// RFC 6409 §8: only a first submission is completed, and nothing else is ever changed.
std::string Connection::missing_fields(mail::MessageId id) {
  const auto& header = talk_->intake()->header();
  std::string fields;
  if (!header.has_date())
    fields += "Date: " + mail::format_date(reception_->clock().now()) + "\r\n";
  if (!header.has_message_id())
    fields += "Message-ID: " + mail::make_message_id(id, settings_->hostname) + "\r\n";
  return fields;
}

std::shared_ptr<const mail::Message> Connection::compose_message(IncomingContent& intake,
                                                                 mail::MessageId id,
                                                                 FinishedBody& body,
                                                                 const std::string& on_top) {
  auto& session = talk_->session();
  auto message = std::make_shared<mail::Message>();
  message->id = id;
  message->received = reception_->clock().now();
  message->origin.protocol = protocol_of(session);
  message->origin.client = session.facts().helo + client_.address.literal();
  message->origin.tls = maillog::tls_summary(session);
  mail::TraceInfo trace;
  trace.tls = message->origin.tls;
  if (session.facts().tls != nullptr)
    trace.tls_cipher = session.facts().tls->cipher;
  trace.helo = session.facts().helo;
  trace.client = client_.address.literal();
  if (const auto& name = session.facts().client.name)
    trace.client_name = name->shown();
  trace.by = settings_->hostname;
  trace.protocol = protocol_of(session);
  trace.id = id;
  trace.when = message->received;
  message->envelope = std::move(session.envelope_to_change());
  message->envelope.tls =
      tls_wish(message->envelope.tls,
               body.fresh_header() ? mail::header_facts(*body.fresh_header()).tls_not_required
                                   : intake.header().tls_not_required());
  if (message->envelope.recipients.size() == 1)
    trace.recipient = message->envelope.recipients.front().address;
  auto& content = message->content;
  content.trace = on_top + mail::received_field(trace);
  if (session.facts().role == Role::submission && !body.is_complete())
    content.trace += missing_fields(id);
  const auto first_line = body.first_line().value_or(intake.header().first_line());
  content.trace += mail::header_joint(first_line, session.facts().role == Role::submission);
  const auto& facts = intake.facts();
  content.has_8bit = facts.has_8bit;
  content.has_8bit_header = facts.has_8bit_header && first_line != mail::HeaderLine::indented;
  if (!is_ascii(on_top))
    content.has_8bit = content.has_8bit_header = true;
  content.longest_line = facts.longest_line;
  content.ends_with_crlf = facts.ends_with_crlf;
  body.describe_changes(*message);
  body.describe(content);
  return message;
}

}  // namespace postrider::smtpd
