// A message in the middle of a conversation.
//
//   waiting --start--> envelope --354, or behind it--> content --all of it sent--> written
//      ^                   |                                                          |
//      `-- the next round of its recipients <------ answered <------------------------'
//
// A round names as many recipients as the remote takes at one time; the last one ends the message.
#pragma once

#include "delivery/job/job.h"
#include "delivery/smtp/client_wire.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace postrider::delivery {

struct MailTransaction {
  enum class Phase : std::uint8_t { waiting, envelope, content, written };
  // How the content goes: behind the 354, as a chunk behind the envelope's replies, or as a chunk
  // in one piece with the envelope.
  enum class Way : std::uint8_t { data, chunk, one_shot };
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
  std::size_t most_in_round = 0;  // after a round that had too many; 0: as many as may be
  std::uint64_t size = 0;
  mail::Outcome why;  // of the unsettled
  Phase phase = Phase::waiting;
  Way way = Way::data;
  bool has_leading_dot = true;
  // Facts about this round and the conversation.
  bool answered = false;  // any reply since it was started
  bool mail_refused = false;
  bool reused = false;    // the connection had carried a message before
  bool has_news = false;  // outcomes that have not been taken

  bool is_chunked() const { return way != Way::data; }
  bool is_written() const { return phase == Phase::written; }
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
