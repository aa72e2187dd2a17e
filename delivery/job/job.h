// Some recipients of one message for one site: what the dispatcher gives to a courier, and what
// the courier says came of it.
#pragma once

#include "base/time.h"
#include "mail/message.h"
#include "mail/outcome.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postrider::delivery {

struct RecipientEnd {
  std::uint32_t index = 0;
  mail::Outcome outcome;
};

struct Job {
  std::uint64_t lease = 0;  // the dispatcher's handle
  std::shared_ptr<const mail::Message> message;
  std::vector<std::uint32_t> recipients;  // in message->envelope.recipients
  std::uint32_t tries = 0;                // hosts or connections that failed it in this attempt
  std::uint32_t returns = 0;              // connections that ended before they took it
  std::uint64_t progress = 0;             // of the site, when it was returned last
  bool in_doubt = false;                  // lost in the middle before: on a connection of its own
  SteadyTime stood_back;                  // since when, and nothing of its kind has ended
  SteadyTime handed_over;                 // to a courier, for the log's delays
  // What another host said of some of them in this attempt: it stands if no host says more.
  std::vector<RecipientEnd> refused;
  std::string refused_by;  // its address, where the dispatcher asks the next one
};

// How a job ended on one connection, or what is known of it while the rest goes on. Every recipient
// comes exactly once, in one of the two lists.
struct JobEnd {
  Job job;
  std::vector<RecipientEnd> results;
  // The connection failed these before anything could have been accepted: another host, or a new
  // connection, may be tried at once. `why` is what to record if there is none.
  std::vector<std::uint32_t> unsettled;
  mail::Outcome why;
  Duration connecting{0};  // spent on the connection, if it was made for this job
  bool reused = false;     // on a connection that had carried a message before
  bool goes_on = false;    // other recipients of the job are still waited for
  bool was_heard = false;  // outcomes of some recipients came earlier
};

}  // namespace postrider::delivery
