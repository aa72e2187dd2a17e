// A message in the middle of a conversation. Only for client.cc.
#pragma once

#include "delivery/smtp/client.h"

namespace postrider::delivery {

// A reply that counts for every accepted recipient, rather than for the one at a position.
inline constexpr std::size_t kAll = static_cast<std::size_t>(-1);

struct Client::Transaction {
  enum class At : std::uint8_t {
    waiting,    // not named to the remote yet, or to be named again
    named,      // RCPT sent, not answered
    accepted,   // RCPT taken
    later,      // the remote takes no more at once: next round
    settled,    // has its outcome
    told,       // and it has been taken, while others were still waited for
    unsettled,  // refused for a reason that another host may not have
  };
  struct Recipient {
    std::uint32_t index = 0;
    At at = At::waiting;
    mail::Outcome outcome;
  };

  Job job;
  std::shared_ptr<const std::string> converted;
  std::vector<Recipient> recipients;
  std::vector<std::size_t> round;  // positions named in this round
  std::size_t next_rcpt = 0;       // in round, without PIPELINING
  std::size_t rcpt_answers = 0;
  std::size_t body_answers_left = 0;
  std::uint64_t size = 0;
  mail::Outcome why;  // of the unsettled
  bool chunked = false;
  bool has_leading_dot = true;
  bool one_shot = false;  // envelope and content in one piece
  bool started = false;
  bool answered = false;  // any reply since it was started
  bool mail_refused = false;
  bool content_queued = false;
  bool content_written = false;
  bool reused = false;
  bool has_news = false;  // outcomes that have not been taken

  std::uint64_t content_size() const {
    const auto& content = job.message->content;
    return converted ? converted->size() : content.trace.size() + content.size;
  }
  std::size_t count(At at) const {
    std::size_t found = 0;
    for (const auto& recipient : recipients)
      found += recipient.at == at ? 1 : 0;
    return found;
  }
  void settle(Recipient& recipient, mail::Outcome outcome) {
    recipient.at = At::settled;
    recipient.outcome = std::move(outcome);
    has_news = true;
  }
  // Every recipient in one of these places.
  void settle_all(At at, const mail::Outcome& outcome) {
    for (auto& recipient : recipients)
      if (recipient.at == at)
        settle(recipient, outcome);
  }
  void unsettle_all(At at, const mail::Outcome& outcome) {
    for (auto& recipient : recipients)
      if (recipient.at == at)
        recipient.at = At::unsettled;
    why = outcome;
  }
};

}  // namespace postrider::delivery
