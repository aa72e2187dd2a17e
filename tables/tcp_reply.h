// What is asked and answered by Postfix's protocol tcp_table(5), pure:
//
//   get ann@x.y   ->   200 value    500 there is none    400 it cannot be told
//
// Octets that are not printable ASCII, and "%", are %XX in both.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::tables {

inline constexpr std::size_t kMostTcpReply = 100'000;  // octets, with the end of the line

std::string tcp_request(std::string_view key);
// The first line of `bytes` without its end; nothing: more must come. Errc::malformed: it is too
// long, or something follows that was not asked for.
Result<std::optional<std::string>> take_tcp_reply(std::string_view bytes);
// The value, or nothing for 500. Errc::storage: the other side cannot tell. Errc::malformed: it says
// nonsense.
Result<std::optional<std::string>> parse_tcp_reply(std::string_view line);

}  // namespace postrider::tables
