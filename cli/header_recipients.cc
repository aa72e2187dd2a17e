#include "cli/header_recipients.h"

#include "base/text.h"
#include "cli/recipient_list.h"
#include "mail/header.h"

namespace postrider::cli {

namespace {

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  for (const auto known : names)
    if (equals_ignoring_case(name, known))
      return true;
  return false;
}

}  // namespace

Result<HeaderRecipients> header_recipients(std::string_view content) {
  HeaderRecipients found;
  std::vector<std::string> ordinary;
  std::vector<std::string> resent;
  bool is_resent = false;
  mail::HeaderScanner scanner(content);
  mail::HeaderField field;
  while (scanner.next(field)) {
    const auto name = trim(field.name);  // "Bcc : x" is obsolete, but Bcc
    const bool blind = is_one_of(name, {"bcc", "resent-bcc"});
    if (!blind)
      found.header.append(field.whole);
    const bool of_resent = is_one_of(name, {"resent-to", "resent-cc", "resent-bcc"});
    is_resent = is_resent || of_resent;
    if (!of_resent && !is_one_of(name, {"to", "cc", "bcc"}))
      continue;
    if (auto parsed = parse_address_list(field.value, of_resent ? resent : ordinary); !parsed)
      return parsed.error().during(std::string(name) + " field");
  }
  found.consumed = scanner.consumed();
  found.addresses = std::move(is_resent ? resent : ordinary);
  return found;
}

}  // namespace postrider::cli
