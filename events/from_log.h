// Events are made of what the mail log says, or of what the queue has stored of it with the
// outcome (queue/fact.h): the typed functions of smtpd/receiving_log.h and
// delivery/delivery_log.h are the one place that knows them, and log and event have the same names.
// Pure.
#pragma once

#include "events/event.h"

#include "base/log.h"
#include "queue/fact.h"

#include <optional>

namespace postrider::events {

// Nothing: applications do not hear of it. id and source are left for whoever keeps the event.
std::optional<CloudEvent> event_of(const LogEvent& line);
std::optional<CloudEvent> event_of(const queue::Fact& fact);

std::optional<Kind> kind_of(const queue::FactLine& line);

// What becomes of messages: true once a transaction of the queue says so, and made of its facts,
// not of the lines of the log.
bool is_of_queue(Kind kind);

}  // namespace postrider::events
