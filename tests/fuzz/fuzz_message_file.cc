// What is read as an exported message is written as one, and no input does harm.
#include "base/assert.h"
#include "daemon/control/message_file.h"

#include <cstdint>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto head = daemon::parse_message_file(text);
  if (!head || !head->has_value())
    return 0;
  POSTRIDER_ASSERT((*head)->size <= size && (*head)->message.content.file.empty());
  const auto written =
      daemon::message_file_head((*head)->message, (*head)->checksum, (*head)->held);
  const auto again = daemon::parse_message_file(written);
  POSTRIDER_ASSERT(again && again->has_value() && (*again)->size == written.size());
  POSTRIDER_ASSERT((*again)->message.id == (*head)->message.id);
  POSTRIDER_ASSERT((*again)->held == (*head)->held);
  return 0;
}
