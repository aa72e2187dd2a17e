// The reply at hand of one session, where it has to be composed, and what the log alone hears of it
// (pure). Each function takes the place of the reply before; the views are good until the next.
#pragma once

#include "mail/reply.h"

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace postrider::smtpd {

class ComposedReply {
 public:
  std::string_view set(std::string text) {
    text_ = std::move(text);
    return text_;
  }
  std::string_view compose(std::initializer_list<std::string_view> parts) {
    text_.clear();
    for (const auto part : parts)
      text_.append(part);
    return text_;
  }
  std::string_view set(const mail::Reply& reply) { return set(reply.wire()); }
  // A temporary refusal that may be our own fault: it ends with the session's id. problem: for the
  // log, may be empty.
  std::string_view temporary_failure(std::string_view text, std::string_view session_id,
                                     std::string problem = {}) {
    problem_ = std::move(problem);
    return compose({text, " [", session_id, "]\r\n"});
  }

  void note_problem(std::string problem) { problem_ = std::move(problem); }
  // Of the refusal at hand; empty: none. Given once.
  std::string take_problem() { return std::exchange(problem_, {}); }

 private:
  std::string text_;
  std::string problem_;
};

}  // namespace postrider::smtpd
