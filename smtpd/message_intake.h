// The way of one session's messages into the queue: the content on its way to memory or a file,
// what filters are shown of it, the message as it is kept, and what the client hears when that
// fails. Lives on the session's loop.
#pragma once

#include "base/net/tls/stream.h"
#include "smtpd/accepted_message.h"
#include "smtpd/held_memory.h"
#include "smtpd/incoming_body.h"
#include "smtpd/loop_connections.h"
#include "smtpd/reading_pace.h"
#include "smtpd/session/session_framer.h"
#include "smtpd/session_filters.h"
#include "smtpd/side_jobs.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class MessageIntake {
 public:
  // What it works with; all of it outlives the intake.
  struct Parts {
    LoopConnections& connections;
    Stream& stream;
    SessionFramer& talk;
    SessionFilters* filters;  // null: there are none
    SideJobs& jobs;
    ReadingPace& pace;
    const HeldMemory& memory;
    const std::string& next_hop;  // see queue::Submission
  };
  explicit MessageIntake(const Parts& parts) : parts_(parts) {}

  // After each read. Beyond what may stay in memory, content goes to its file as it arrives. What
  // has to stay there as a whole, a header section, is given up by whoever keeps more than a share.
  void keep_large_content();
  // Filters see what has arrived since the last time, before it may go to a file. need: as
  // SessionFramer::take() said.
  Task<void> show_to_filters(SessionFramer::Need need);
  // The header is to be rewritten by tables that may wait; nothing else is done before.
  bool waits_for_tables() const { return body_.waits_for_tables(); }
  Task<void> rewrite_header();

  // After SessionFramer::Need::store. more_has_come: octets behind the message, which its client
  // has sent before it may leave.
  Task<SessionFramer::Need> store(std::string& replies, bool more_has_come);

  // Messages that were stored.
  std::uint64_t stored() const { return stored_; }
  // The client has left before the reply to a message: it sends it again.
  bool has_client_left() const { return has_client_left_; }

 private:
  // Of what filters said: fields above our own, and why the message is held.
  struct Added {
    std::string on_top, hold;
  };

  IncomingBody& body_of_message();
  Storage storage_trouble(IncomingContent& content, const Error& error);
  Task<SessionFramer::Need> keep(IncomingContent& content, IncomingBody& body,
                                 std::string& replies);
  Task<SessionFramer::Need> filter_and_keep(IncomingContent& content, IncomingBody& body,
                                            std::string& replies, bool more_has_come);
  Task<filter::Verdict> end_filters(filter::Ending& ending, bool more_has_come);
  bool is_client_gone(bool more_has_come);
  Task<SessionFramer::Need> hand_over(IncomingContent& content, mail::MessageId id,
                                      FinishedBody& body, const Added& added, std::string& replies);
  const SessionFacts& facts() const { return parts_.talk.session().facts(); }

  const Parts parts_;
  IncomingBody body_;  // of the message at hand
  std::uint64_t stored_ = 0;
  bool has_client_left_ = false;
};

}  // namespace postrider::smtpd
