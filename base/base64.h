// RFC 4648.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postrider {

std::string encode_base64(std::string_view bytes);
std::optional<std::string> decode_base64(std::string_view text);     // §4, strict, with padding
std::optional<std::string> decode_base64url(std::string_view text);  // §5, without padding

}  // namespace postrider
