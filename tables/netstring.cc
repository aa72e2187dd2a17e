#include "tables/netstring.h"

#include "base/text.h"

namespace postrider::tables {

std::string netstring(std::string_view text) {
  return std::to_string(text.size()) + ":" + std::string(text) + ",";
}

Result<std::optional<std::string>> parse_netstring(std::string_view bytes) {
  constexpr std::size_t kMostDigits = 6;
  std::size_t size = 0, digits = 0;
  while (digits < bytes.size() && bytes[digits] >= '0' && bytes[digits] <= '9') {
    if (digits == kMostDigits)
      return malformed("netstring: too long");
    size = size * 10 + static_cast<std::size_t>(bytes[digits++] - '0');
  }
  if (digits == bytes.size())
    return std::optional<std::string>();
  if (digits == 0 || bytes[digits] != ':' || size > kMostNetstring ||
      (digits > 1 && bytes.front() == '0'))
    return malformed("netstring: no length");
  const auto rest = bytes.substr(digits + 1);
  if (rest.size() <= size)
    return std::optional<std::string>();
  if (rest[size] != ',')
    return malformed("netstring: no comma at its end");
  return std::optional<std::string>(rest.substr(0, size));
}

Result<std::optional<std::string>> parse_socketmap_answer(std::string_view answer) {
  const auto space = answer.find(' ');
  const auto word = answer.substr(0, space);
  const auto rest = space == answer.npos ? std::string_view() : answer.substr(space + 1);
  if (word == "OK")
    return std::optional<std::string>(rest);
  if (word == "NOTFOUND")
    return std::optional<std::string>();
  if (word == "TEMP" || word == "TIMEOUT" || word == "PERM")
    return Error(Errc::storage,
                 "it says " + std::string(word) + (rest.empty() ? "" : ": ") + escaped(rest, 100));
  return Error(Errc::storage, "it says nonsense: " + escaped(answer, 100));
}

}  // namespace postrider::tables
