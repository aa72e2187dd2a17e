#include "smtpd/auth/saslprep.h"

#include "base/text.h"
#include "smtpd/auth/sasl.h"

#include <algorithm>
#include <stringprep.h>

namespace postrider::smtpd::auth {

namespace {

bool is_printable_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

std::optional<std::string> saslprep(std::string_view text) {
  if (text.empty() || text.size() > kMostPassword || text.find('\0') != std::string_view::npos)
    return std::nullopt;
  if (is_printable_ascii(text))
    return std::string(text);
  if (!is_utf8(text))
    return std::nullopt;
  // Compatibility forms grow to at most 18 times their size (U+FDFA); what grows beyond the room
  // is refused by the library.
  std::string room(kMostPassword * 2, '\0');
  text.copy(room.data(), text.size());
  if (stringprep(room.data(), room.size() - 1, Stringprep_profile_flags{}, stringprep_saslprep) !=
      STRINGPREP_OK)
    return std::nullopt;
  room.resize(room.find('\0'));
  if (room.empty() || room.size() > kMostPassword)
    return std::nullopt;
  return room;
}

std::optional<std::string> user_key(std::string_view name) {
  if (name.size() > kMostUserName)
    return std::nullopt;
  const auto prepared = saslprep(name);
  if (!prepared || prepared->size() > kMostUserName ||
      prepared->find_first_of(": ") != std::string::npos)
    return std::nullopt;
  return ascii_lower(*prepared);
}

}  // namespace postrider::smtpd::auth
