#include "smtpd/filter/chain.h"

#include <boost/asio/post.hpp>

#include <utility>

namespace postrider::smtpd::filter {

using Kind = Verdict::Kind;

Chain::Chain(const std::vector<std::shared_ptr<const Source>>& sources, const Facts& facts,
             const Surroundings& surroundings)
    : loop_(surroundings.loop) {
  bool is_behind_editor = false;
  for (const auto& source : sources) {
    auto filter = source->make(facts, surroundings);
    if (!filter)
      continue;
    const auto stages = filter->stages();
    stages_ |= stages;
    Link link{std::move(filter), stages};
    link.is_late = is_behind_editor && !link.filter->can_be_shown_again();
    is_behind_editor |= link.filter->changes_at_end();
    links_.push_back(std::move(link));
  }
}

void Chain::note(Link& link, Verdict& verdict) {
  if (verdict.kind == Kind::done)
    link.is_done = true;
  else if (verdict.kind == Kind::discard || verdict.kind == Kind::refuse)
    settled_ = std::move(verdict);
}

// A command is refused by the first that does, and then the others do not hear of it.
template <class Call>
Task<Verdict> Chain::ask(Stage stage, Call call) {
  is_open_ |= stage >= Stage::mail;
  for (auto& link : links_) {
    if ((link.stages & bit(stage)) == 0 || !takes_part(link) || settled_.kind == Kind::discard)
      continue;
    auto verdict = co_await call(*link.filter);
    if (verdict.refuses())
      co_return verdict;
    note(link, verdict);
  }
  co_return Verdict{};
}

Task<Verdict> Chain::connect() {
  auto verdict = co_await ask(Stage::connect, [](Filter& filter) { return filter.connect(); });
  for (auto& link : links_)
    link.has_left |= std::exchange(link.is_done, false);
  co_return verdict;
}

Task<Verdict> Chain::helo() {
  abort();
  auto verdict = co_await ask(Stage::helo, [](Filter& filter) { return filter.helo(); });
  for (auto& link : links_)
    link.has_left |= std::exchange(link.is_done, false);
  co_return verdict;
}

Task<Verdict> Chain::mail(const mail::Envelope& envelope) {
  abort();
  co_return co_await ask(Stage::mail, [&](Filter& filter) { return filter.mail(envelope); });
}

Task<Verdict> Chain::recipient(const mail::Recipient& recipient) {
  co_return co_await ask(Stage::recipient,
                         [&](Filter& filter) { return filter.recipient(recipient); });
}

Task<Verdict> Chain::data(const mail::Envelope& envelope) {
  co_return co_await ask(Stage::data, [&](Filter& filter) { return filter.data(envelope); });
}

void Chain::settle(Verdict verdict) {
  if (verdict.refuses() && settled_.kind == Kind::go_on)
    settled_ = std::move(verdict);
}

template <class Call>
Task<void> Chain::show(bool body, Call call) {
  for (auto& link : links_) {
    if (!takes_part(link) || link.is_late || settled_.kind != Kind::go_on ||
        (body && !link.wants_body))
      continue;
    link.was_shown = true;
    auto verdict = co_await call(*link.filter);
    note(link, verdict);
  }
}

Task<void> Chain::header(const mail::Envelope& envelope, std::string& section) {
  if (std::exchange(has_header_, false))
    abort();
  is_open_ = has_header_ = true;
  co_await show(false, [&](Filter& filter) { return filter.header(envelope, section); });
  body_wanted_ = 0;
  for (auto& link : links_) {
    link.wants_body = takes_part(link) && !link.is_late && link.filter->wants_body();
    body_wanted_ += link.wants_body ? 1 : 0;
  }
}

Task<void> Chain::body(std::string_view piece) {
  co_await show(true, [&](Filter& filter) { return filter.body(piece); });
}

Task<Verdict> Chain::end(Ending& ending) {
  for (auto& link : links_) {
    const bool is_again = ending.has_changed && link.was_shown && !link.has_left;
    if (is_again) {
      link.filter->abort();
      link.is_done = false;
    }
    if ((is_again || link.is_late) && takes_part(link) && settled_.kind == Kind::go_on)
      co_await show_whole(link, ending);
    if (!takes_part(link) || settled_.kind != Kind::go_on)
      continue;
    auto verdict = co_await link.filter->end(ending);
    link.was_shown = false;  // a change of its own is none to it
    note(link, verdict);
  }
  if (settled_.kind == Kind::go_on && ending.envelope.recipients.empty())
    settled_.kind = Kind::discard;
  co_return settled_;
}

Task<void> Chain::show_whole(Link& link, Ending& ending) {
  link.filter->on_top(ending.on_top);
  auto section = ending.header;
  auto verdict = co_await link.filter->header(ending.envelope, section);
  if (section != ending.header) {
    ending.header = std::move(section);
    ending.has_changed = true;
  }
  note(link, verdict);
  if (settled_.kind == Kind::go_on)
    co_await show_body_again(link, ending.body);
}

// Others have their turn on this loop between the pieces.
Task<void> Chain::show_body_again(Link& link, WholeBody& body) {
  constexpr int kPiecesInTurn = 8;
  std::uint64_t at = 0;
  for (int pieces = 1; takes_part(link) && link.filter->wants_body(); ++pieces) {
    const auto piece = body.read(at);
    if (!piece) {
      settled_ = Verdict::refuse({451, mail::EnhancedCode{4, 3, 0}, "Local error, try again later"},
                                 piece.error().describe());
      co_return;
    }
    if (piece->empty())
      co_return;
    at += piece->size();
    auto verdict = co_await link.filter->body(*piece);
    note(link, verdict);
    if (settled_.kind != Kind::go_on)
      co_return;
    if (pieces % kPiecesInTurn == 0)
      co_await asio::post(loop_.executor(), use_task);
  }
}

void Chain::abort() {
  if (!std::exchange(is_open_, false))
    return;
  settled_ = Verdict{};
  has_header_ = false;
  body_wanted_ = 0;
  for (auto& link : links_) {
    link.is_done = link.wants_body = link.was_shown = false;
    if (!link.has_left)
      link.filter->abort();
  }
}

void Chain::give_up() {
  for (auto& link : links_)
    link.filter->give_up();
}

}  // namespace postrider::smtpd::filter
