// A message as the queue takes it over, of what a session has received: the trace fields on top,
// the fields that a first submission lacks, and the facts about its content.
#pragma once

#include "base/time.h"
#include "mail/message.h"
#include "smtpd/incoming_body.h"
#include "smtpd/session/incoming_content.h"
#include "smtpd/session/session.h"

#include <memory>
#include <string>

namespace postrider::smtpd {

// Date and Message-ID, whichever the header lacks, with CRLF. RFC 6409 §8: only a first submission
// is completed, and nothing else is ever changed.
std::string missing_fields(const HeaderWatch& header, mail::MessageId id,
                           const std::string& hostname, TimePoint now);

// Takes the session's envelope. on_top: fields of filters, which stand above our own; next_hop: of the
// listener.
std::shared_ptr<const mail::Message> compose_message(Session& session,
                                                     const IncomingContent& content,
                                                     mail::MessageId id, FinishedBody& body,
                                                     const std::string& on_top,
                                                     const std::string& next_hop, TimePoint now);

}  // namespace postrider::smtpd
