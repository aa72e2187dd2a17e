// A file that an alias includes.
#pragma once

#include "base/result.h"

#include <string>

namespace postrider::delivery {

// The whole text. Errc::refused with the reason for what is no regular file, or that everybody may
// write; Errc::too_long above 4 MiB. The error begins with the path. Blocks.
Result<std::string> read_included(const std::string& path);

}  // namespace postrider::delivery
