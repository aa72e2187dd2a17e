// New messages for where an expansion leads: the same content, one message for each envelope
// sender.
#pragma once

#include "delivery/job/message_body.h"
#include "delivery/job/queue_port.h"
#include "delivery/local/addresses/expander.h"
#include "mail/message.h"

#include <cstdint>
#include <string>
#include <vector>

namespace postrider::delivery {

// What the message had been delivered to so far stands above: "Delivered-To: <address>" makes a
// loop over other hosts end here. The time of receipt stays, so that the lifetime does.
//
// RFC 3461 §5.2.7: to a single address everything goes along; to several, all but the wish to hear
// of success; to a mailing list (owner-), nothing: its owner hears. That goes for a sender that
// was rewritten, too, which leads back to the one who asked. A null sender stays null, so that no
// notice is ever answered.
//
// Whoever is left out of an expansion because another way of the message leads there counts as one
// of the several (Expansion::repeated).
//
// on_top: fields that stand above what goes to other systems, so that all recipients of one message
// get the same. A small body is shared. Of a large one each message needs a file of its own:
// blocks.
Result<std::vector<queue::Submission>> make_onward(const mail::Message& original,
                                                   std::uint32_t recipient,
                                                   const std::string& delivered_to,
                                                   const Expansion& expansion, QueuePort& custody,
                                                   const OpenBody& open_body,
                                                   const std::string& on_top = {});

// The NOTIFY with which the mail goes on to them, unless an owner takes over.
mail::Notify onward_notify(const mail::Recipient& from, const Expansion& expansion);

// "rfc822;ann@example.org" in xtext (RFC 3461 §4.2); empty for an address outside of ASCII.
std::string as_original_recipient(std::string_view address);

}  // namespace postrider::delivery
