#include "base/saslprep.h"

#include "base/text.h"

#include <algorithm>
#include <stringprep.h>

namespace postrider {

namespace {

bool is_printable_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

std::optional<std::string> saslprep(std::string_view text) {
  if (text.empty() || text.size() > kMostSaslText || text.find('\0') != std::string_view::npos)
    return std::nullopt;
  if (is_printable_ascii(text))
    return std::string(text);
  if (!is_utf8(text))
    return std::nullopt;
  // Compatibility forms grow to at most 18 times their size (U+FDFA); what grows beyond the room
  // is refused by the library.
  std::string room(kMostSaslText * 2, '\0');
  text.copy(room.data(), text.size());
  if (stringprep(room.data(), room.size() - 1, Stringprep_profile_flags{}, stringprep_saslprep) !=
      STRINGPREP_OK)
    return std::nullopt;
  room.resize(room.find('\0'));
  if (room.empty() || room.size() > kMostSaslText)
    return std::nullopt;
  return room;
}

}  // namespace postrider
