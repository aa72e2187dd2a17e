// A mail request of any octets is refused with a sentence, or becomes a message whose header has no
// fields but those that were asked for, and an envelope that the daemon takes.
#include "web/mail_request.h"

#include "base/assert.h"
#include "base/text.h"
#include "mail/header.h"

#include <cstdint>
#include <string_view>

using namespace postrider;

namespace {

void check_composed(std::string_view content) {
  mail::HeaderScanner fields(content);
  mail::HeaderField field;
  std::size_t from = 0, types = 0;
  while (fields.next(field)) {
    POSTRIDER_ASSERT(!equals_ignoring_case(field.name, "Bcc"));
    from += equals_ignoring_case(field.name, "From");
    types += equals_ignoring_case(field.name, "Content-Type");
  }
  POSTRIDER_ASSERT(from == 1 && types == 1);
  POSTRIDER_ASSERT(content.substr(fields.consumed()).starts_with("\r\n"));
  for (const auto line : split(content, '\n'))
    POSTRIDER_ASSERT(line.size() <= 999);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto request = web::read_mail_request(body);
  if (!request) {
    POSTRIDER_ASSERT(!request.error().step().empty() && is_utf8(request.error().step()));
    return 0;
  }
  POSTRIDER_ASSERT(!request->header.recipients.empty());
  POSTRIDER_ASSERT(daemon::to_envelope(request->header, "x.example", 10'000).has_value());
  if (body.find("\"raw\"") == std::string_view::npos && body.find('\\') == std::string_view::npos)
    check_composed(request->content);
  return 0;
}
