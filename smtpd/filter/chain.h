// The filters of one session, in their order, as whoever has the message calls them: a connection,
// or what takes mail from sendmail. One call at a time; see smtpd/filter/mail_filter.h for their
// order.
//
//   Chain chain(sources, facts, surroundings);
//   co_await chain.mail(envelope); ...
//   co_await chain.header(envelope, section);
//   co_await chain.body(piece);
//   const auto verdict = co_await chain.end(ending);
//   chain.abort();
#pragma once

#include "smtpd/filter/mail_filter.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::smtpd::filter {

class Chain {
 public:
  Chain(const std::vector<std::shared_ptr<const Source>>& sources, const Facts& facts,
        const Surroundings& surroundings);

  bool empty() const { return links_.empty(); }
  // Where any of them wants to be asked.
  Stages stages() const { return stages_; }

  Task<Verdict> connect();
  Task<Verdict> helo();
  Task<Verdict> mail(const mail::Envelope& envelope);
  Task<Verdict> recipient(const mail::Recipient& recipient);
  Task<Verdict> data(const mail::Envelope& envelope);
  // No verdict: what is refused from here on is reported by end().
  Task<void> header(const mail::Envelope& envelope, std::string& section);
  Task<void> body(std::string_view piece);
  bool wants_body() const { return body_wanted_ > 0; }
  // The message is to be refused at its end, if this verdict says so.
  void settle(Verdict verdict);
  // Refuse, discard, or go_on: with the message as `ending` then is. Never done. Who has not seen
  // what the message has become is shown it first.
  Task<Verdict> end(Ending& ending);
  // The message at hand has ended; nothing happens if there is none.
  void abort();
  void give_up();

 private:
  struct Link {
    std::unique_ptr<Filter> filter;
    Stages stages = 0;
    bool has_left = false;  // for the session
    bool is_done = false;   // with the message
    bool wants_body = false;
    bool is_late = false;    // sees content at the end alone
    bool was_shown = false;  // this message's header
  };
  template <class Call>
  Task<Verdict> ask(Stage stage, Call call);
  template <class Call>
  Task<void> show(bool body, Call call);
  Task<void> show_whole(Link& link, Ending& ending);
  Task<void> show_body_again(Link& link, WholeBody& body);
  bool takes_part(const Link& link) const { return !link.has_left && !link.is_done; }
  void note(Link& link, Verdict& verdict);

  Loop& loop_;
  std::vector<Link> links_;
  Stages stages_ = 0;
  bool is_open_ = false;     // a message
  bool has_header_ = false;  // that was shown
  std::size_t body_wanted_ = 0;
  // Of the message, before its end: to discard or to refuse it.
  Verdict settled_;
};

}  // namespace postrider::smtpd::filter
