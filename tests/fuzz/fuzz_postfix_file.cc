// Any octets as a queue file of Postfix: no harm, no more content than file, the same twice.
#include "base/assert.h"
#include "daemon/predecessor/postfix_file.h"

#include <cstdint>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0)
    return 0;
  const daemon::PostfixRules rules{(data[0] & 1U) != 0, "us.example"};
  const auto file =
      daemon::file_of(std::string_view(reinterpret_cast<const char*>(data + 1), size - 1));
  std::size_t content = 0;
  const auto read =
      daemon::read_postfix_file(file, rules, [&content](std::string_view piece) -> Result<void> {
        content += piece.size();
        return {};
      });
  POSTRIDER_ASSERT(content <= size);
  const auto again = daemon::read_postfix_file(file, rules);
  POSTRIDER_ASSERT(read.has_value() == again.has_value());
  if (!read)
    return 0;
  POSTRIDER_ASSERT(read->waiting() == again->waiting() && read->waiting() <= size);
  for (const auto& envelope : read->envelopes) {
    const auto stored = mail::decode_envelope(mail::encode(envelope));
    POSTRIDER_ASSERT(stored && *stored == envelope);
  }
  return 0;
}
