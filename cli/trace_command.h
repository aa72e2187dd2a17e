// `postrider trace`.
#pragma once

#include "cli/administration.h"

namespace postrider::cli {

// request.act is "trace".
int trace_mail(const Administration& how, daemon::ControlRequest request);

}  // namespace postrider::cli
