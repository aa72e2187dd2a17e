// The types of the values of events in JSON: they go by the key's name, the same in all events.
// doc/log.md has the list for readers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::daemon {

enum class FieldType : std::uint8_t { text, number, flag };
FieldType type_of_field(std::string_view key);

// As JSON: text as a string, cut behind `most` bytes; "yes" and "no" of a flag as true and false; a
// number as it is. A number or a flag that is unknown is null.
void append_json_value(std::string_view key, std::string_view value, std::string& out,
                       std::size_t most);
// A string that a parser reads back as what it was, but for bytes that are no UTF-8: they become
// U+FFFD. What disturbs a terminal is written as \uNNNN.
void append_json_string(std::string_view value, std::string& out, std::size_t most);

}  // namespace postrider::daemon
