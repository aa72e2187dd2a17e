// Folders in which a tool writes, and files that it reads, perhaps as root and in somebody else's.
#pragma once

#include "base/file.h"

#include <string>

namespace postrider::daemon {

// As root: through no symbolic link but those that root made in folders of root's, and not where
// others than the folder's owner may put what they like (unless it is sticky, as /tmp). All else is
// then done by the descriptor.
Result<FileDescriptor> open_folder_to_write(const std::string& path);

// A regular file to be read by root: found through no symbolic links but those that root made in
// folders of root's, so that a link of another's leads to no secret that is not that other's. In a
// folder of others it must not have a second name elsewhere. Never waits for a pipe.
Result<FileDescriptor> open_file_as_root(const std::string& path);

}  // namespace postrider::daemon
