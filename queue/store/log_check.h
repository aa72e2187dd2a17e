// SQLite ends its log (queue.db-wal) at the first frame that is not valid, and says nothing: what a
// damaged frame hides, accepted mail among it, is gone without a word. This looks whether there was
// more.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>

namespace postrider::queue {

struct LogCheck {
  std::uint64_t valid_frames = 0;
  // Ends of transactions behind the first frame that is not valid. One may be a transaction that
  // was being written when the power went; more were promised.
  std::uint64_t hidden_commits = 0;
  // Its header is not valid, which hides all of them. It was synced before the first was written.
  bool has_bad_header = false;
  bool hides_mail() const { return hidden_commits > 1 || (has_bad_header && hidden_commits > 0); }
};

// Before SQLite opens it. A log that is missing or empty has nothing to hide.
Result<LogCheck> check_log(const std::string& path);

}  // namespace postrider::queue
