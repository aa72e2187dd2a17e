// What the privileged parent's child is handed counts as hostile, and so do the files beside a
// user's mailbox: decoding never fails hard, and what decodes is the same after another round.
#include "base/assert.h"
#include "delivery/local/agents/local_target_codec.h"
#include "delivery/local/agents/maildir_quota.h"
#include "delivery/local/agents/mbox.h"
#include "delivery/local/agents/mbox_lock.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::delivery;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto job = decode_local_job(bytes)) {
    const auto again = decode_local_job(encode(*job));
    POSTRIDER_ASSERT(again.has_value() && *again == *job);
  }
  if (const auto command = split_command(bytes))
    POSTRIDER_ASSERT(command->front().front() == '/');
  (void)parse_maildirsize(bytes);
  (void)size_in_name(bytes);
  (void)parse_lock_owner(bytes);
  FromQuoter quoter;
  std::string out;
  quoter.feed(bytes.substr(0, size / 2), out);
  quoter.feed(bytes.substr(size / 2), out);
  quoter.finish(out);
  POSTRIDER_ASSERT(!out.starts_with("From ") && out.find("\nFrom ") == std::string::npos);
  return 0;
}
