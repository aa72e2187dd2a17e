// The part of a connection that hands messages to the queue: the body on its way, the message as it
// is kept, and what the client hears when that fails.
#include "base/text.h"
#include "mail/header.h"
#include "smtpd/connection.h"

#include <algorithm>
#include <cerrno>

namespace postrider::smtpd {

namespace {

bool is_no_room(const Error& error) {
  return error.code() == boost::system::errc::no_space_on_device ||
         (error.code().category() == boost::system::system_category() &&
          error.code().value() == EDQUOT);
}

}  // namespace

// Beyond what may stay in memory, content goes to its file as it arrives.
void Connection::keep_large_content() {
  auto* intake = talk_->intake();
  if (intake == nullptr || !intake->is_wanted()) {
    body_ = queue::BodyFile();
    fresh_header_.reset();
    return;
  }
  if (intake->bytes().size() > Intake::kMostInMemory)
    append_to_body(*intake);
}

// Of a first submission alone: what passes through may be signed.
bool Connection::rewrite_header(Intake& intake) {
  const auto* rewriter = policy_->settings().rewriter.get();
  const bool is_wanted = rewriter != nullptr && rewriter->changes_headers() &&
                         talk_->session().role() == Role::submission;
  if (!is_wanted || fresh_header_)
    return true;
  auto& bytes = intake.bytes();
  old_header_ = mail::header_section_size(bytes);
  auto fresh = rewriter->header(std::string_view(bytes).substr(0, old_header_));
  if (!fresh)
    return storage_trouble(intake, fresh.error());
  bytes.replace(0, old_header_, *fresh);
  fresh_header_ = *std::move(fresh);
  return true;
}

bool Connection::append_to_body(Intake& intake) {
  auto& custody = reception_->custody();
  if (!body_.is_open()) {
    if (!rewrite_header(intake))
      return false;
    message_id_ = custody.next_id();
    auto created = custody.create_body(message_id_);
    if (!created)
      return storage_trouble(intake, created.error());
    body_ = *std::move(created);
  }
  auto appended = custody.append(body_, intake.bytes());
  if (!appended)
    return storage_trouble(intake, appended.error());
  intake.bytes().clear();
  return true;
}

bool Connection::storage_trouble(Intake& intake, const Error& error) {
  maillog::trouble(reception_->log(), talk_->session().id(), "write message body", error);
  intake.storage_failed(is_no_room(error) ? Storage::no_room : Storage::failed);
  body_ = queue::BodyFile();
  return false;
}

Task<Conversation::Need> Connection::store() {
  stream_.clear_deadline();  // the client has done its part
  auto& intake = *talk_->intake();
  auto& replies = buffer_->replies;
  if (!body_.is_open() && !rewrite_header(intake)) {
    const auto storage = intake.content().storage;
    co_return talk_->stored(storage, message_id_, replies);
  }
  if (body_.is_open() && !append_to_body(intake)) {
    const auto storage = intake.content().storage;
    co_return talk_->stored(storage, message_id_, replies);
  }
  if (!body_.is_open())
    message_id_ = reception_->custody().next_id();
  const auto header_message_id = intake.header().message_id();
  queue::Submission submission;
  auto message = compose_message(intake);
  submission.message = message;
  submission.body = std::exchange(body_, queue::BodyFile());
  auto accepted = co_await reception_->custody().accept(reception_->loop(), std::move(submission));
  if (accepted) {
    ++summary_.messages;
    count(reception_->counters().messages);
    count(reception_->counters().recipients, message->envelope.recipients.size());
    count(reception_->counters().bytes, message->content.size);
    maillog::accepted(reception_->log(), talk_->session(), *message, header_message_id);
    co_return talk_->stored(Storage::open, message_id_, replies);
  }
  const auto error = accepted.error();
  maillog::trouble(reception_->log(), talk_->session().id(), "store message", error);
  refresh_conditions();
  const bool no_room =
      is_no_room(error) || talk_->session().conditions().storage == Storage::no_room;
  co_return talk_->stored(no_room ? Storage::no_room : Storage::failed, message_id_, replies);
}

std::shared_ptr<const mail::Message> Connection::compose_message(Intake& intake) {
  auto& session = talk_->session();
  auto message = std::make_shared<mail::Message>();
  message->id = message_id_;
  message->received = reception_->clock().now();
  message->origin.protocol = session.protocol();
  message->origin.client = session.helo() + client_.address.literal();
  message->origin.tls = maillog::tls_summary(session);
  mail::TraceInfo trace;
  trace.tls = message->origin.tls;
  if (session.tls() != nullptr)
    trace.tls_cipher = session.tls()->cipher;
  trace.helo = session.helo();
  trace.client = client_.address.literal();
  trace.by = policy_->settings().hostname;
  trace.protocol = session.protocol();
  trace.id = message_id_;
  trace.when = message->received;
  message->envelope = session.take_envelope();
  // RFC 8689 §4.1: the field is ignored where REQUIRETLS was given.
  if (intake.header().tls_not_required() && message->envelope.tls == mail::TlsWish::unspecified)
    message->envelope.tls = mail::TlsWish::optional;
  if (message->envelope.recipients.size() == 1)
    trace.recipient = message->envelope.recipients.front().address;
  auto& content = message->content;
  content.trace = mail::received_field(trace);
  // RFC 6409 §8: only a first submission is completed, and nothing else is ever changed.
  if (session.role() == Role::submission && !intake.header().has_date())
    content.trace += "Date: " + mail::format_date(message->received) + "\r\n";
  if (session.role() == Role::submission && !intake.header().has_message_id())
    content.trace +=
        "Message-ID: " + mail::make_message_id(message_id_, policy_->settings().hostname) + "\r\n";
  const auto& facts = intake.facts();
  content.size = facts.size;
  content.has_8bit = facts.has_8bit;
  content.has_8bit_header = facts.has_8bit_header;
  content.longest_line = facts.longest_line;
  content.ends_with_crlf = facts.ends_with_crlf;
  if (const auto header = std::exchange(fresh_header_, std::nullopt)) {
    content.size = content.size - old_header_ + header->size();
    content.has_8bit_header = content.has_8bit_header || !is_ascii(*header);
    content.has_8bit = content.has_8bit || content.has_8bit_header;
    for (const auto line : split(*header, '\n'))
      content.longest_line =
          std::max(content.longest_line, static_cast<std::uint32_t>(line.size()));
  }
  if (body_.is_open())
    content.file = body_.name();
  else
    content.bytes = std::make_shared<const std::string>(std::move(intake.bytes()));
  return message;
}

}  // namespace postrider::smtpd
