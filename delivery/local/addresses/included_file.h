// A file that an alias includes.
#pragma once

#include "base/result.h"

#include <string>
#include <sys/types.h>

namespace postrider::delivery {

struct IncludedFile {
  std::string text;
  uid_t owner = 0;
};

// The whole file, for the owner of the file that names it: base/named_file.h says which are
// refused. Errc::too_long above 4 MiB. One that is being rewritten is not believed yet
// (delivery/local/agents/settled_file.h). The error begins with the path, and is for the log.
// Blocks.
Result<IncludedFile> read_included(const std::string& path, uid_t author);

}  // namespace postrider::delivery
