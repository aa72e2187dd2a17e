#include "base/base64.h"

#include <array>
#include <cstdint>

namespace postrider {

namespace {

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::int8_t, 256> kValues = [] {
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < kDigits.size(); ++i)
    values[static_cast<unsigned char>(kDigits[i])] = static_cast<std::int8_t>(i);
  return values;
}();

// What the digits before so much padding hold beyond the last octet (RFC 4648 §3.5).
constexpr std::array<std::uint32_t, 3> kUnused = {0, 0xc0, 0xf000};

}  // namespace

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group =
          (group << 8U) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k)
      text.push_back(i + k <= bytes.size() ? kDigits[(group >> (18 - 6 * k)) & 63U] : '=');
  }
  return text;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0)
    return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const std::size_t padding = !last || text[i + 3] != '=' ? 0U : (text[i + 2] == '=' ? 2U : 1U);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const int value = k >= 4 - padding ? 0 : kValues[static_cast<unsigned char>(text[i + k])];
      if (value < 0)
        return std::nullopt;
      group = (group << 6U) | static_cast<std::uint32_t>(value);
    }
    if ((group & kUnused[padding]) != 0)
      return std::nullopt;
    for (std::size_t k = 0; k < 3 - padding; ++k)
      bytes.push_back(static_cast<char>((group >> (16 - 8 * k)) & 255U));
  }
  return bytes;
}

std::optional<std::string> decode_base64url(std::string_view text) {
  if (text.find_first_of("+/=") != std::string_view::npos)
    return std::nullopt;
  std::string plain(text);
  for (auto& c : plain)
    c = c == '-' ? '+' : c == '_' ? '/' : c;
  plain.append((4 - plain.size() % 4) % 4, '=');
  return decode_base64(plain);
}

}  // namespace postrider
