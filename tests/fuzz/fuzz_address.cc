// Whatever is accepted as a path is a mailbox on its own, without controls, within the limits, and
// means the same when its local part is quoted again.
#include "base/assert.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/envelope.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;
using namespace postrider::mail;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool smtputf8 : {false, true}) {
    const PathRules rules{.smtputf8 = smtputf8, .null_allowed = true, .bare_postmaster = true};
    const auto path = parse_path(text, rules);
    if (!path || path->mailbox.empty() || equals_ignoring_case(path->mailbox, "postmaster"))
      continue;
    const std::string& mailbox = path->mailbox;
    POSTRIDER_ASSERT(mailbox.size() <= 254 && is_utf8(mailbox));
    POSTRIDER_ASSERT(smtputf8 || is_ascii(mailbox));
    POSTRIDER_ASSERT(std::none_of(mailbox.begin(), mailbox.end(), [](char c) {
      return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    }));
    POSTRIDER_ASSERT(*parse_mailbox(mailbox, smtputf8) == mailbox);
    const auto domain = domain_of(mailbox);
    POSTRIDER_ASSERT(is_host_name(domain) || is_address_literal(domain));
    const auto local = local_part_of(mailbox);
    const auto meaning = unquoted_local_part(local);
    POSTRIDER_ASSERT(unquoted_local_part(quoted_local_part(meaning)) == meaning);
    const auto again = quoted_local_part(meaning) + "@" + domain;
    POSTRIDER_ASSERT(parse_mailbox(again, smtputf8) || again.size() > mailbox.size());
  }
  (void)domain_of(text);
  (void)local_part_of(text);
  const auto ascii = to_ascii_domain(text);
  POSTRIDER_ASSERT(!ascii || is_host_name(*ascii));
  return 0;
}
