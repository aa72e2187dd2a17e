// Any octets as ID-H, with a journal behind a form feed: no harm, and what is read can be stored.
#include "base/assert.h"
#include "daemon/predecessor/exim_file.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto end = std::min(text.find('\f'), text.size());
  const auto journal = text.substr(std::min(end + 1, text.size()));
  const auto id = text.substr(0, std::min<std::size_t>(16, text.size()));
  const auto read = daemon::read_exim_header(text.substr(0, end), id, journal, "us.example");
  static_cast<void>(daemon::read_exim_content("A: 1\n", daemon::file_of(text), id,
                                              [](std::string_view) -> Result<void> { return {}; }));
  if (!read)
    return 0;
  POSTRIDER_ASSERT(read->header.size() <= size && read->message.waiting() <= size);
  for (const auto& envelope : read->message.envelopes) {
    const auto stored = mail::decode_envelope(mail::encode(envelope));
    POSTRIDER_ASSERT(stored && *stored == envelope);
  }
  return 0;
}
