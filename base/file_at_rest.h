// Files that a program may be writing in place at this moment: they are empty, or end within a
// line. Such a file is believed only when it has been at rest for long enough.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <string>
#include <sys/stat.h>

namespace postrider {

inline constexpr Duration kUnfinishedRest{std::chrono::seconds(10)};
inline constexpr Duration kLongAtRest{std::chrono::hours(24)};

// How long the file has been as it is, by the stamp of its last write: kLongAtRest at most. A stamp
// that lies ahead of the clock was set by somebody and says nothing: the file counts as an old one.
Duration time_at_rest(const struct stat& about);

// An empty file that was empty when it was made and has not been written to since: it never held
// anything, so nothing of it can be missing. False where the file system cannot tell.
bool was_made_empty(const std::string& path);

// "PATH: REASON, perhaps because it is being written", to try again with.
Error perhaps_unfinished(const std::string& path, const std::string& reason);
bool is_perhaps_unfinished(const Error& error);

}  // namespace postrider
