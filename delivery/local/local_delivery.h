// One local recipient of a message, from its address to an outcome: where aliases and the user's
// .forward lead, where that mailbox is, whether the message has been there. Blocks: for the pool.
//
//   recipient --aliases--> one place here        --.forward--> mailbox, file or command
//                      \-> several, or elsewhere            \-> several, or elsewhere
//                          = new messages, recorded together with the end of this recipient
//
// New messages are stored in the same transaction as the record that ends the recipient, so a crash
// repeats the expansion or has it done: nobody is lost, and nobody gets a message twice for it.
#pragma once

#include "base/time.h"
#include "delivery/job/message_body.h"
#include "delivery/job/queue_port.h"
#include "delivery/local/addresses/expander.h"
#include "delivery/local/addresses/forward_count.h"
#include "delivery/local/addresses/resolved_recipient.h"
#include "delivery/local/agents/delivery_agent.h"
#include "delivery/local/forward_seal.h"
#include "mail/directory.h"
#include "mail/message.h"
#include "mail/outcome.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace postrider::delivery {

// Where a recipient's mail is about to go.
struct LocalClaim {
  std::string user;   // whose rights and files are used, if it is a person's
  std::string place;  // of the mailbox or command; empty while only the user's .forward is read
  std::string deed;   // what is done once for a message: see LocalHistory; empty: as often as asked
  bool is_command = false;
  bool sends_on = false;  // makes new messages: one delivery of a message and its kin at a time
};

struct LocalDelivery {
  std::shared_ptr<const mail::Message> message;
  std::uint32_t recipient = 0;
  std::string mailbox;   // the pattern of local.mailbox
  std::string hostname;  // for file names, and for an address without a domain
  const mail::Directory* directory = nullptr;  // asked where there is no book
  std::shared_ptr<const LocalAddresses> book;  // may be null, with users
  std::shared_ptr<const Users> users;
  QueuePort* custody = nullptr;  // for new messages
  OpenBody open_body;
  DeliveryAgent* performer = nullptr;
  std::shared_ptr<const ForwardSealer> sealer = {};  // null: what goes on is not sealed
  std::uint32_t minimum_uid = 1000;                  // of accounts with whose rights is delivered
  TargetLimits limits;
  TimePoint now;
  // Asked before the user's files, a mailbox or a command are touched. False: not now, the result
  // says `is_busy`. Empty: always.
  std::function<bool(const LocalClaim&)> may_go_on;
  // Whether this was done for the message before, on another way. Empty: never.
  std::function<bool(const std::string& deed)> was_done;
  CountForward count_forward;  // empty: as many as there are
  // Of mail. Past half of it, what a .forward may not send on is put into the mailbox: a stranger
  // who sends more than it may would else have his mail returned, to whomever he named.
  Duration lifetime{std::chrono::hours(120)};
};

struct LocalResult {
  mail::Outcome outcome;
  std::vector<queue::Submission> onward;  // to be stored with the outcome
  std::vector<std::string> problems;      // with aliases and .forward files, for the log
  // Not empty: the message must be delivered to the mailbox by this LMTP server (what follows
  // "lmtp:" in a pattern); there is no outcome yet.
  std::string lmtp;
  std::string deed;                  // what was done, if it was delivered
  std::vector<std::string> sent_on;  // whom the new messages reach, as deeds of their own
  bool is_busy = false;  // may_go_on() said no; nothing was done, and there is no outcome
  std::optional<Duration> again_within;  // to be tried again sooner than the schedule says
};

// Return-Path and Delivered-To on top (RFC 5321 §4.4, RFC 9228), LF line ends. A message that has
// been delivered to this address before is a loop: 5.4.6. An unknown user: 5.1.1. Failures of the
// file system: retry.
LocalResult deliver_locally(const LocalDelivery& delivery);

}  // namespace postrider::delivery
