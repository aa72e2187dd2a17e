// Files that must be regular ones: a pipe, a folder or a link that stands in such a place is named, and nobody waits
// at it.
#pragma once

#include "base/file.h"

#include <sys/stat.h>

namespace postrider {

// "a folder", "a symbolic link", "a pipe", "a socket", "a device" or "a regular file".
const char* kind_of_file(mode_t mode);

// Errc::unsupported, with the path and what it is: it is open, and is not a regular file.
Result<void> require_regular(const FileDescriptor& file, const std::string& path);

// As open_file(), with O_NOFOLLOW, O_NONBLOCK and O_NOCTTY added. Errc::unsupported, with the path and what stands
// there: it is not a regular file.
Result<FileDescriptor> open_regular_file(const std::string& path, int flags, unsigned mode = 0600);

// For what others open by its name. One that is missing is right. The error is as above.
Result<void> require_regular_or_none(const std::string& path);

}  // namespace postrider
