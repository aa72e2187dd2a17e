// Work that waits for a file system, which may have stopped answering for good: one that a server
// keeps which is gone, or a program that hangs. Nobody can end such a wait; so others do the
// waiting, and who needs the answer goes on without it. (What users have mounted is not asked at
// all: base/user_mounts.h.)
#pragma once

#include "base/time.h"

#include <functional>
#include <string>

namespace postrider {

inline constexpr Duration kFileTime{5'000};

// Runs the job on another thread. True: it has ended, or thrown. False: not within the limit, or one
// of the same key began before and still runs, or too many do. What runs goes on alone: a job owns
// whatever it uses. What hangs keeps one thread for each key, 16 in all. Thread-safe; not for a
// process that will fork.
bool done_in_time(const std::string& key, std::function<void()> job, Duration limit = kFileTime);

// Whether the beginning of a file, or the names in a folder, can be read in that time, or at least
// be refused.
bool answers_in_time(const std::string& path, Duration limit = kFileTime);

}  // namespace postrider
