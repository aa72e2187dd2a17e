// One local recipient of a message, from its address to an outcome: who it is, where that mailbox
// is, whether the message has been there. Blocks: for the pool.
#pragma once

#include "base/time.h"
#include "delivery/body_sender.h"
#include "delivery/local/performer.h"
#include "mail/directory.h"
#include "mail/message.h"
#include "mail/outcome.h"

#include <cstdint>
#include <string>

namespace postrider::delivery {

struct LocalDelivery {
  std::shared_ptr<const mail::Message> message;
  std::uint32_t recipient = 0;
  std::string mailbox;   // the pattern of local.mailbox
  std::string hostname;  // for file names, and for an address without a domain
  const mail::Directory* directory = nullptr;
  OpenBody open_body;
  Performer* performer = nullptr;
  std::uint32_t minimum_uid = 1000;  // of accounts with whose rights is delivered
  TimePoint now;
};

// Return-Path and Delivered-To on top (RFC 5321 §4.4, RFC 9228), LF line ends. A message that has
// been delivered to this address before is a loop: 5.4.6. An unknown user: 5.1.1. Failures of the
// file system: retry.
mail::Outcome deliver_locally(const LocalDelivery& delivery);

// One target that an address has led to. envelope.now, hostname, id and sender are filled in here.
mail::Outcome deliver_to_target(const LocalDelivery& delivery, const Target& target,
                                LocalEnvelope envelope);

}  // namespace postrider::delivery
