#include "smtpd/session_filters.h"

#include "mail/header.h"

#include <utility>

namespace postrider::smtpd {

namespace {

// Of the fields, without the empty line.
std::size_t fields_size(std::string_view bytes) {
  mail::HeaderScanner scanner(bytes);
  mail::HeaderField field;
  while (scanner.next(field)) {
  }
  return scanner.consumed();
}

}  // namespace

void SessionFilters::refresh_facts(const Session& session) {
  const auto& known = session.facts();
  facts_.client = known.client;
  facts_.helo = known.helo;
  facts_.protocol = protocol_of(session);
  facts_.tls = known.tls;
  facts_.declared_size = session.transaction().declared_size();
}

Task<filter::Verdict> SessionFilters::ask(const Session& session,
                                          std::function<mail::MessageId()> next_id) {
  refresh_facts(session);
  const auto& envelope = session.transaction().envelope();
  switch (session.filter_gate().stage()) {
    case filter::Stage::connect:
      co_return co_await chain_.connect();
    case filter::Stage::helo:
      co_return co_await chain_.helo();
    case filter::Stage::mail:
      facts_.message = next_id();
      has_asked_data_ = false;  // a DATA before it may have been refused
      co_return co_await chain_.mail(envelope);
    case filter::Stage::recipient:
      co_return co_await chain_.recipient(envelope.recipients.back());
    case filter::Stage::data:
      break;
  }
  auto verdict = co_await chain_.data(envelope);
  has_asked_data_ = true;
  co_return verdict;
}

void SessionFilters::begin_content(std::uint64_t number) {
  if (message_ == number)
    return;
  message_ = number;
  has_shown_header_ = false;
}

Task<void> SessionFilters::show_header(const Session& session, IncomingBody& body,
                                       std::string& bytes) {
  const auto& envelope = session.transaction().envelope();
  refresh_facts(session);
  if (facts_.message.value == 0)  // nobody asked for it at MAIL
    facts_.message = body.reserve_id();
  has_shown_header_ = true;
  if (!std::exchange(has_asked_data_, false))
    chain_.settle(co_await chain_.data(envelope));
  section_.assign(bytes, 0, fields_size(bytes));
  co_await chain_.header(envelope, section_);
  body.replace_header(bytes, section_);
  shown_ = mail::header_section_size(bytes);
  body_at_ = shown_;
}

bool SessionFilters::wants(const std::string& bytes) const {
  return chain_.wants_body() && bytes.size() > shown_;
}

Task<void> SessionFilters::show_body(std::string_view bytes) {
  co_await chain_.body(bytes.substr(shown_));
}

Task<filter::Verdict> SessionFilters::end(const Session& session, filter::Ending& ending) {
  refresh_facts(session);
  auto verdict = co_await chain_.end(ending);
  chain_.abort();
  facts_.message = {};
  co_return verdict;
}

}  // namespace postrider::smtpd
