// Results: what is read can be written and read again; no value ends a field or a result; what we
// ourselves would read as ours is removed, and all else stays.
#include "base/assert.h"
#include "mail/header.h"
#include "mailauth/auth_results.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

void check_written(std::string_view text) {
  for (const bool utf8 : {false, true}) {
    const std::string value(text);
    const auto field = authentication_results_field(
        "mx.example.com",
        {{"spf", "pass", value, value, {{"smtp", "mailfrom", value}}}, {"dkim", "none"}}, utf8);
    mail::HeaderScanner scanner(field);
    mail::HeaderField only, second;
    POSTRIDER_ASSERT(scanner.next(only) && only.whole == field && !scanner.next(second));
    const auto read = parse_authentication_results(only.value);
    POSTRIDER_ASSERT(read && read->authserv_id == "mx.example.com" && read->results.size() == 2);
    POSTRIDER_ASSERT(read->results[1].method == "dkim" && read->results[1].result == "none");
    POSTRIDER_ASSERT(read->results[0].properties.size() == 1);
  }
}

void check_claims(std::string_view text) {
  const auto read = parse_authentication_results(text);
  if (read && read->authserv_id == "mx.example.com")
    POSTRIDER_ASSERT(may_claim_authserv_id(text, "mx.example.com"));
  const std::vector<std::string> ids = {"mx.example.com"};
  const auto kept = without_forged_results(text, ids);
  if (!kept)
    return;
  POSTRIDER_ASSERT(kept->size() <= text.size());
  POSTRIDER_ASSERT(!without_forged_results(*kept, ids));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_written(bytes);
  check_claims(bytes);
  return 0;
}
