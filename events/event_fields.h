// The names of what stands in an event, once: in the log, in the JSON and in a sink's `fields`.
// Pure.
#pragma once

#include "events/event.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace postrider::events {

// "delivered"; the type of the event is "postrider.delivered".
const char* name_of(Kind kind);
std::optional<Kind> parse_kind(std::string_view name);

struct Field {
  const char* name;
  std::string CloudEvent::*value;
  enum class Form : std::uint8_t { text, number } form = Form::text;
  // Where an event made of a log line has it from: the field of that name, or what the line means.
  enum class Origin : std::uint8_t { line, derived } origin = Origin::line;
  bool is_number() const { return form == Form::number; }
};

// The members of `data` in the order in which they are written. `from` stands before `to`, and is
// not among them: it may be there and empty.
std::span<const Field> fields();
inline constexpr std::string_view kFrom = "from";
const Field* find_field(std::string_view name);  // nullptr: there is none

}  // namespace postrider::events
