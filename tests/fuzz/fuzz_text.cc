// Escaped text is harmless; what is parsed is formatted back to what means the same.
#include "base/assert.h"
#include "base/escaped_text.h"
#include "base/network.h"
#include "base/text.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;

static bool steers(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto safe = escaped(text, 100);
  POSTRIDER_ASSERT(is_utf8(safe) && safe.size() <= 403 && !steers(safe));
  POSTRIDER_ASSERT(escaped(safe, safe.size()) == safe);
  std::string value;
  append_escaped_value(text, value, 100);
  POSTRIDER_ASSERT(is_utf8(value) && !steers(value) && value.find('"') == value.npos);
  if (const auto duration = parse_duration(text))
    POSTRIDER_ASSERT(parse_duration(format_duration(*duration)) == duration);
  if (const auto bytes = parse_size(text))
    POSTRIDER_ASSERT(parse_size(format_size(*bytes)) == bytes);
  if (const auto number = parse_unsigned(text))
    POSTRIDER_ASSERT(parse_unsigned(std::to_string(*number)) == number);
  if (const auto address = IpAddress::parse(text))
    POSTRIDER_ASSERT(IpAddress::parse(address->str()) == address);
  if (const auto network = Network::parse(text))
    POSTRIDER_ASSERT(Network::parse(network->str()).has_value());
  return 0;
}
