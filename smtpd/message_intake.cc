#include "smtpd/message_intake.h"

#include "smtpd/complete_content.h"
#include "smtpd/receiving_log.h"
#include "smtpd/session/sending_rights.h"

#include <cerrno>
#include <memory>
#include <optional>
#include <poll.h>
#include <sys/socket.h>
#include <utility>

namespace postrider::smtpd {

using Need = SessionFramer::Need;

namespace {

// What one message may hold in memory while all of them hold much.
constexpr std::size_t kMostWhenTight = 4U << 10U;
// While filters take their time over a whole message, its client may leave.
constexpr Duration kLookAfterClient(500);
// Who waited no longer than this for a reply is still there, or never wanted to read it.
constexpr Duration kNoWait(50);

bool is_no_room(const Error& error) {
  return error.code() == boost::system::errc::no_space_on_device ||
         error.code() == boost::system::errc::not_enough_memory ||
         (error.code().category() == boost::system::system_category() &&
          error.code().value() == EDQUOT);
}

}  // namespace

void MessageIntake::keep_large_content() {
  auto* content = parts_.talk.intake();
  if (content == nullptr || !content->is_wanted()) {
    body_ = IncomingBody();
    return;
  }
  auto& body = body_of_message();
  const bool is_over_share = parts_.memory.is_over_share();
  const bool is_tight = is_over_share || parts_.connections.is_tight();
  const auto most = is_tight ? kMostWhenTight : IncomingContent::kMostInMemory;
  if (content->bytes().size() <= most)
    return;
  if (body.awaits_header() && !content->header().has_ended()) {
    if (is_over_share)
      storage_trouble(
          *content,
          Error(boost::system::errc::make_error_code(boost::system::errc::not_enough_memory),
                "the header section is beyond its client's share of memory"));
    return;
  }
  if (body.waits_for_tables(content->bytes()))
    return;
  if (auto spilled = body.spill(content->bytes()); !spilled)
    storage_trouble(*content, spilled.error());
  else if (is_tight)
    std::string().swap(content->bytes());
  if (parts_.filters != nullptr)
    parts_.filters->note_shown(0);
}

// One read may end a message and begin another: what was kept of the former is not the latter's.
IncomingBody& MessageIntake::body_of_message() {
  const auto number = parts_.talk.messages_begun();
  if (body_.number() == number)
    return body_;
  const auto& settings = facts().policy->settings();
  IncomingBody::Repair repair;
  const bool is_submission = facts().role == Role::submission;
  repair.is_filtered = parts_.filters != nullptr;
  // Where filters judge a header, nobody may find more fields in it than they did.
  repair.ends_header = is_submission || repair.is_filtered;
  if (is_submission && settings.rewriter && settings.rewriter->changes_headers())
    repair.rewriter = settings.rewriter;
  if (SendingRights(facts()).checks_authors())
    repair.judge = [this](std::string_view header) {
      return SendingRights(facts()).may_write_as(header);
    };
  if (repair.is_filtered && parts_.filters->message_id().value != 0)
    repair.id = parts_.filters->message_id();
  if (repair.is_filtered && is_submission)
    repair.completion = [this] {
      return missing_fields(parts_.talk.intake()->header(), body_.reserve_id(),
                            facts().policy->settings().hostname, parts_.connections.clock().now());
    };
  body_ = IncomingBody(parts_.connections.custody(), number, repair);
  return body_;
}

Task<void> MessageIntake::show_to_filters(Need need) {
  auto* content = parts_.talk.intake();
  auto& filters = *parts_.filters;
  if (content == nullptr || !content->is_wanted()) {
    if (!parts_.talk.session().transaction().is_begun())
      filters.abort();
    co_return;
  }
  const auto began = parts_.connections.clock().steady();
  auto& body = body_of_message();
  filters.begin_content(body.number());
  auto& bytes = content->bytes();
  if (!filters.has_shown_header()) {
    if (!content->header().has_ended() && need != Need::store)
      co_return;
    parts_.stream.clear_deadline();
    if (body.waits_for_tables(bytes))
      co_await rewrite_header();
    if (const auto trouble = body.trouble()) {
      storage_trouble(*content, *trouble);
      co_return;
    }
    body.complete(bytes);
    co_await filters.show_header(parts_.talk.session(), body, bytes);
  }
  if (filters.wants(bytes)) {
    parts_.stream.clear_deadline();
    co_await filters.show_body(bytes);
  }
  filters.note_shown(bytes.size());
  parts_.pace.excuse(began, parts_.connections.clock().steady());
}

// One client's at a time: a table that hangs leaves threads to the others.
Task<void> MessageIntake::rewrite_header() {
  parts_.stream.clear_deadline();  // what there is to do is ours
  const auto began = parts_.connections.clock().steady();
  auto& bytes = parts_.talk.intake()->bytes();
  const auto answer = std::make_shared<std::optional<Result<std::string>>>();
  Lookups::Job job;
  job.key = "header of " + facts().client.address.str();
  job.is_own = true;
  job.ask = [answer, question = body_.header_question(bytes)] { *answer = question(); };
  const bool is_answered = co_await parts_.jobs.run(std::move(job));
  if (is_answered && *answer)
    body_.rewritten(bytes, std::move(**answer));
  else
    body_.rewritten(bytes, Error(Errc::storage, "rewrite the header: the tables do not answer"));
  parts_.pace.excuse(began, parts_.connections.clock().steady());
}

Storage MessageIntake::storage_trouble(IncomingContent& content, const Error& error) {
  auto& connections = parts_.connections;
  const bool is_theirs = error.code() == boost::system::errc::not_enough_memory;
  auto& heard =
      is_theirs ? connections.log_about(Policy::may_relay(facts().client)) : connections.log();
  maillog::trouble(heard, facts().id, "write message body", error);
  const auto state = is_no_room(error) ? Storage::no_room : Storage::failed;
  content.storage_failed(state);
  body_ = IncomingBody();
  return state;
}

Task<Need> MessageIntake::store(std::string& replies, bool more_has_come) {
  auto& content = *parts_.talk.intake();
  // What failed in the read that brought the end, the session does not know yet.
  if (const auto storage = content.summary().storage; storage != Storage::open)
    co_return parts_.talk.stored(storage, {}, replies);
  auto& body = body_of_message();
  if (parts_.filters == nullptr || body.is_refused())
    co_return co_await keep(content, body, replies);
  co_return co_await filter_and_keep(content, body, replies, more_has_come);
}

Task<Need> MessageIntake::keep(IncomingContent& content, IncomingBody& body, std::string& replies) {
  if (body.waits_for_tables(content.bytes()))
    co_await rewrite_header();
  auto finished = body.finish(std::exchange(content.bytes(), {}), content.facts().size);
  if (!finished)
    co_return parts_.talk.stored(storage_trouble(content, finished.error()), {}, replies);
  const auto id = body.id();
  const bool is_refused = body.is_refused();
  body_ = IncomingBody();
  if (is_refused)
    co_return parts_.talk.stored(Storage::refused, {}, replies);
  co_return co_await hand_over(content, id, *finished, {}, replies);
}

// What the filters want changed is part of the message before it is ours.
Task<Need> MessageIntake::filter_and_keep(IncomingContent& content, IncomingBody& body,
                                          std::string& replies, bool more_has_come) {
  auto& talk = parts_.talk;
  auto finished = body.finish(std::exchange(content.bytes(), {}), content.facts().size);
  if (!finished)
    co_return talk.stored(storage_trouble(content, finished.error()), {}, replies);
  const auto id = body.id();
  body_ = IncomingBody();
  CompleteContent whole(parts_.connections.custody(), id, *std::move(finished),
                        parts_.filters->body_at());
  auto section = parts_.filters->take_section();
  filter::Ending ending{id, talk.session().envelope_to_change(), section, whole};
  auto verdict = co_await end_filters(ending, more_has_come);
  if (has_client_left_)
    co_return Need::close;
  if (verdict.refuses())
    co_return talk.refused(std::move(verdict), replies);
  if (verdict.kind == filter::Verdict::Kind::discard) {
    maillog::discarded(parts_.connections.log(), talk.session(), id);
    co_return talk.stored(Storage::open, id, replies);
  }
  const Added added{ending.on_top, ending.hold};
  if (!ending.has_changed) {
    auto unchanged = whole.finish_unchanged();
    co_return co_await hand_over(content, id, unchanged, added, replies);
  }
  auto changed = co_await whole.finish(parts_.connections.loop(), std::move(section));
  if (!changed)
    co_return talk.stored(storage_trouble(content, changed.error()), {}, replies);
  co_return co_await hand_over(content, id, *changed, added, replies);
}

// Whether nobody is there any more to read a reply: what such a client sent, it will send again.
// One that said what comes next, and then finished sending, may still read.
bool MessageIntake::is_client_gone(bool more_has_come) {
  auto& stream = parts_.stream;
  if (!stream.is_open())
    return true;
  pollfd look{stream.socket().native_handle(), POLLIN | POLLRDHUP, 0};
  if (::poll(&look, 1, 0) <= 0 || (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
    return false;
  if (more_has_come)
    return (look.revents & (POLLHUP | POLLERR)) != 0;
  char next = 0;
  return stream.tls() != nullptr || ::recv(look.fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

// The whole message, before it is ours.
Task<filter::Verdict> MessageIntake::end_filters(filter::Ending& ending, bool more_has_come) {
  auto& filters = *parts_.filters;
  bool is_gone = false;
  filter::Verdict verdict;
  const auto began = parts_.connections.clock().steady();
  {
    Deadline look(parts_.connections.loop().deadlines(), [&] {
      is_gone = is_client_gone(more_has_come);
      if (is_gone)
        filters.give_up();
      else
        look.set(kLookAfterClient);
    });
    look.set(kLookAfterClient);
    verdict = co_await filters.end(parts_.talk.session(), ending);
  }
  if (parts_.jobs.has_given_up() || parts_.connections.clock().steady() - began > kNoWait)
    is_gone = is_gone || is_client_gone(more_has_come);
  has_client_left_ = is_gone;
  co_return verdict;
}

Task<Need> MessageIntake::hand_over(IncomingContent& content, mail::MessageId id,
                                    FinishedBody& body, const Added& added, std::string& replies) {
  auto& connections = parts_.connections;
  auto& session = parts_.talk.session();
  auto& custody = connections.custody();
  auto& log = connections.log();
  const auto header_message_id = content.header().message_id();
  queue::Submission submission;
  auto message = compose_message(session, content, id, body, added.on_top, parts_.next_hop,
                                 connections.clock().now());
  submission.message = message;
  submission.body = body.take_file();
  submission.hold = added.hold;
  const bool is_fact = custody.keeps_facts();
  std::optional<LogEvent> line;
  if (log.enabled(Level::info) || is_fact)
    line = maillog::accepted(session, *message, header_message_id);
  if (is_fact)
    submission.line = queue::encode_line(*line);
  auto accepted = co_await custody.accept(connections.loop(), std::move(submission));
  if (accepted) {
    ++stored_;
    count(connections.counters().messages);
    count(connections.counters().recipients, message->envelope.recipients.size());
    count(connections.counters().bytes, message->content.size);
    if (line && log.enabled(Level::info))
      log.write(*std::move(line));
    co_return parts_.talk.stored(Storage::open, id, replies);
  }
  const auto error = accepted.error();
  maillog::trouble(log, facts().id, "store message", error);
  connections.note(session.conditions());
  const bool no_room = is_no_room(error) || session.conditions().storage == Storage::no_room;
  co_return parts_.talk.stored(no_room ? Storage::no_room : Storage::failed, id, replies);
}

}  // namespace postrider::smtpd
