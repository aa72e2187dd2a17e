// Events are made of what the mail log says: the typed functions of smtpd/receiving_log.h and
// delivery/delivery_log.h are the one place that knows them, and log and event have the same names.
// Pure.
#pragma once

#include "events/event.h"

#include "base/log.h"

#include <optional>

namespace postrider::events {

// Nothing: applications do not hear of it. id and source are left for whoever keeps the event.
std::optional<CloudEvent> event_of(const LogEvent& line);

}  // namespace postrider::events
