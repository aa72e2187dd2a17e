// RFC 4648 §4, for content that need not be text on its way to the tools.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postrider::daemon {

std::string encode_base64(std::string_view bytes);
std::optional<std::string> decode_base64(std::string_view text);  // strict, with padding

}  // namespace postrider::daemon
