// Runs the command of a credentials file that prints an access token. For a short-lived process of
// the daemon's user, outside of its sandbox; blocks.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <string>
#include <vector>

namespace postrider::delivery {

struct TokenCommandLimits {
  Duration time = std::chrono::seconds(30);
  std::size_t output = 16U << 10U;
};

// Its standard output. arguments: as delivery/local/agents/local_target.h splits a command; no
// shell is involved, standard input is empty, the environment is PATH, HOME, USER, LOGNAME and
// SHELL. An error is a command that does not start, ends otherwise than with exit code 0 (with the
// first line that it complained with), takes or says too much, which ends its whole group. asker: a
// socket whose other end hanging up ends the command too; -1: none.
Result<std::string> run_token_command(const std::vector<std::string>& arguments,
                                      const TokenCommandLimits& limits, int asker);

}  // namespace postrider::delivery
