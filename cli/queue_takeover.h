// `postrider queue import postfix` and `import exim`.
#pragma once

#include "cli/administration.h"
#include "daemon/predecessor/take_over.h"

namespace postrider::cli {

int take_over_queue(const Administration& how, const daemon::TakeOverOptions& options);

}  // namespace postrider::cli
