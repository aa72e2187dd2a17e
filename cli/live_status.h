// `postrider top`: the status on a screen that is written again and again, until somebody ends it.
#pragma once

#include "base/time.h"
#include "cli/administration.h"

namespace postrider::cli {

// Takes the terminal on standard input and output, and gives it back as it was, whatever ends it. An
// exit code: EX_USAGE where there is no terminal.
int show_live_status(const Administration& how, Duration every);

}  // namespace postrider::cli
