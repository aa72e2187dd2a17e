// What a sink shows of an event: which fields, and how much of people's addresses. Pure.
#pragma once

#include "events/event.h"

#include <cstdint>
#include <string>
#include <vector>

namespace postrider::events {

enum class Privacy : std::uint8_t {
  none,     // as it is
  domains,  // local parts are "*", in texts of servers too
};

struct View {
  // Names of fields (events/event_fields.h); empty: all. What says what an event is about (id,
  // session, site, alarm, sink) is always there.
  std::vector<std::string> fields = {};
  Privacy privacy = Privacy::none;
  bool shows_all() const { return fields.empty() && privacy == Privacy::none; }
};

CloudEvent seen_by(const View& view, CloudEvent event);
// "<ann.lee@example.net>: no such user" -> "<*@example.net>: no such user". A quoted local part
// goes with its quotes.
std::string without_local_parts(std::string_view text);

}  // namespace postrider::events
