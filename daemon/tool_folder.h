// Folders in which a tool writes, perhaps as root and in somebody else's.
#pragma once

#include "base/file.h"

#include <string>

namespace postrider::daemon {

// As root: through no symbolic link but those that root made in folders of root's, and not where
// others than the folder's owner may put what they like (unless it is sticky, as /tmp). All else is
// then done by the descriptor.
Result<FileDescriptor> open_folder_to_write(const std::string& path);

}  // namespace postrider::daemon
