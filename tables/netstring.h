// Netstrings and the answers of Postfix's socketmap protocol (socketmap_table(5)), pure:
//
//   11:name ann@x.y,   ->   6:OK ann,    8:NOTFOUND,    TEMP reason   TIMEOUT reason   PERM reason
#pragma once

#include "base/result.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::tables {

inline constexpr std::size_t kMostNetstring = 100'000;  // as Postfix has it

std::string netstring(std::string_view text);
// What the first netstring in `bytes` holds; nothing: more must come. Errc::malformed: it is none,
// or too long.
Result<std::optional<std::string>> parse_netstring(std::string_view bytes);
// The value, or nothing for NOTFOUND. Errc::storage: the other side cannot tell, or says nonsense.
Result<std::optional<std::string>> parse_socketmap_answer(std::string_view answer);

}  // namespace postrider::tables
