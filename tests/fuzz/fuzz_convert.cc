// A conversion gives bodies of 7 bits, and has nothing left to do the second time. 8-bit text in
// headers and between parts has no such form and stays.
#include "base/assert.h"
#include "base/text.h"
#include "mail/convert.h"
#include "mail/header.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::mail;

namespace {

// What comes by DATA: whoever says BINARYMIME may send other lines.
bool has_clean_lines(std::string_view content) {
  for (std::size_t at = 0; at < content.size(); ++at) {
    const bool is_end = content.substr(at, 2) == "\r\n";
    if (!is_end && (content[at] == '\r' || content[at] == '\n' || content[at] == '\0'))
      return false;
    at += is_end ? 1U : 0U;
  }
  return true;
}

// One body below a header of 7 bits: nothing is left that may stay.
bool is_one_body(std::string_view content) {
  return is_ascii(content.substr(0, header_section_size(content))) &&
         ascii_lower(content).find("content-") == std::string::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const bool binary : {false, true}) {
    if (!binary && !has_clean_lines(bytes))
      continue;
    const auto once = to_seven_bit(bytes, binary);
    if (!once)
      continue;
    POSTRIDER_ASSERT((is_ascii(*once) || !is_one_body(bytes)) && once->size() < 4 * size + 100000);
    const auto twice = to_seven_bit(*once, binary);
    POSTRIDER_ASSERT(twice && *twice == *once);
  }
  return 0;
}
