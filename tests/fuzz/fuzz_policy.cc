// What a policy service answers, in any pieces, is one action or an error; what is kept of it never
// breaks a line. The same octets as a greylist's file give no more than they hold.
#include "base/assert.h"
#include "smtpd/filter/greylist.h"
#include "smtpd/filter/policy_protocol.h"

#include <cstdint>
#include <string>

using namespace postrider;
using namespace postrider::smtpd::filter;

namespace {

void check(const policy::Action& action) {
  using Kind = policy::Action::Kind;
  POSTRIDER_ASSERT(action.text.find_first_of("\r\n") == std::string::npos);
  if (action.kind != Kind::refuse)
    return;
  POSTRIDER_ASSERT(action.reply.code >= 400 && action.reply.code <= 599);
  const auto wire = action.reply.wire();
  POSTRIDER_ASSERT(wire.find('\n') + 1 == wire.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  policy::AnswerReader whole, parts;
  const auto at_once = whole.feed(bytes);
  if (at_once && *at_once)
    check(policy::parse_action(**at_once));
  for (std::size_t at = 0; at < size; ++at) {
    const auto got = parts.feed(std::string_view(bytes).substr(at, 1));
    if (!got || *got)
      break;
  }
  Greylist list{Greylist::Rules()};
  list.restore(bytes, TimePoint(Duration(1'700'000'000'000)));
  POSTRIDER_ASSERT(list.size() <= size);
  Greylist again{Greylist::Rules()};
  again.restore(list.snapshot(), TimePoint(Duration(1'700'000'000'000)));
  POSTRIDER_ASSERT(again.size() == list.size());
  return 0;
}
