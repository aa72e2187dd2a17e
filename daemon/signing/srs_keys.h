// The keys of the addresses that are made of senders: the file that local.srs_key names, or one in
// the spool that is made at the first start.
//
//   # one key a line; the first makes addresses, each of them verifies
//   tUQ7mJxkBt0Zg1sTRbiS4fUuCfQnHTLr
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "daemon/config/config_file.h"
#include "delivery/local/addresses/forwarded_sender.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

struct SrsKeys {
  std::vector<std::string> keys;  // of use only without problems
  struct Wrong {
    unsigned line = 0;  // 0: the whole file
    std::string text;   // never a key
  };
  std::vector<Wrong> problems;
};

// 16 to 512 octets each, at most 20.
SrsKeys parse_srs_keys(std::string_view text);
// Refuses what is not a regular file, above 64 KiB, or readable by others than its owner and group.
// follow: a symbolic link.
SrsKeys load_srs_keys(const std::string& path, bool follow);

// What is wrong with the file that is named now, if local.srs needs it. The one in the spool is for
// the daemon alone to open.
std::vector<Problem> check_srs_keys(const Config& config, const Origins& origins);

// Null without local.srs. Makes the file in the spool. clock outlives the result.
Result<std::shared_ptr<const delivery::SenderRewriter>> open_sender_rewriter(const Config& config,
                                                                             const Clock& clock);

}  // namespace postrider::daemon
