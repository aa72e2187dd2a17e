// The one table of configuration keys. Parsing, limits, `postrider config`, the manual page and
// the shipped example come from it; a key that is not here does not exist.
//
// A row reaches its member through a function of the Config and an index. The index counts the
// [[listener]] or [[route]] that is meant and is 0 elsewhere.
#pragma once

#include "daemon/config/config.h"

#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace postrider::daemon {

// Empty if the text may stand, else "<what is wrong>, <what is allowed>".
using Check = std::string (*)(std::string_view text);

template <class T>
using Member = T& (*)(Config& config, std::size_t index);

struct Text {
  Member<std::string> member;
  Check check;
};
struct TextList {
  Member<std::vector<std::string>> member;
  Check check;
  bool may_be_one = false;  // a single text stands for a list of one
};
struct Flag {
  Member<bool> member;
};
struct OptionalFlag {
  Member<std::optional<bool>> member;
};
struct Number {
  Member<std::uint64_t> member;
  std::uint64_t least, most;
};
struct Size {  // with a unit
  Member<std::uint64_t> member;
  std::uint64_t least, most;
};
struct Time {  // with a unit
  Member<Duration> member;
  Duration least, most;
};
struct TimeList {  // at least one
  Member<std::vector<Duration>> member;
  Duration least, most;
};
struct Choice {  // an enumeration whose values count from 0 in the order of the names
  std::span<const char* const> names;
  std::size_t (*get)(const Config& config, std::size_t index);
  void (*set)(Config& config, std::size_t index, std::size_t value);
};

struct Option {
  const char* key;  // "accept.message_size"
  std::variant<Text, TextList, Flag, OptionalFlag, Number, Size, Time, TimeList, Choice> value;
  bool required = false;  // within its [[listener]] or [[route]]
  const char* unset;      // what happens without it, where that is not a value: "the system's name"
  const char* what;       // one sentence
};

struct Section {
  const char* name;  // "" for the keys above the first section
  bool repeats;      // [[name]]
  std::size_t (*count)(const Config& config);
  void (*append)(Config& config);
  const char* what;  // one sentence
};

std::span<const Option> options();
std::span<const Section> sections();  // in the order in which they are shown
const Option* find_option(std::string_view key);
const Section* find_section(std::string_view name);
// "accept" of "accept.message_size"; "" of "spool".
std::string_view section_of(const Option& option);
std::string_view name_in_section(const Option& option);

// "a size from 64KiB to 2GiB": what may stand after the equals sign, for errors and the manual.
std::string allowed(const Option& option);
// The value as TOML: "50MiB" with its quotes, [ "a", "b" ], true. Empty if it is not set.
std::string value_text(const Option& option, const Config& config, std::size_t index);

}  // namespace postrider::daemon
