// Delivery into an mbox (RFC 4155): locked, appended behind a "From " line with From-lines of the
// message quoted (">From ", reversibly), synced; cut back to what it was when anything fails.
// Blocks.
#pragma once

#include "delivery/local/agents/local_target.h"
#include "mail/outcome.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

// A mailbox that stays locked for long is 4.2.0, a full one (target.limits.mailbox_size) 4.2.2, a
// message larger than the limit 5.2.2. /dev/null accepts and discards.
mail::Outcome deliver_to_mbox(const LocalJob& job, const LocalBody& body);

// Puts ">" before each line that is ">"s and "From ", over any splitting. Pure.
class FromQuoter {
 public:
  void feed(std::string_view in, std::string& out);
  void finish(std::string& out);  // what was held back, and the line's end if it is missing

 private:
  std::string held_;  // the beginning of a line that may yet turn out to be one
  bool at_start_ = true;
  bool holding_ = true;
};

}  // namespace postrider::delivery
