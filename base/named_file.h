// A file that somebody who is not its reader has named: the reader's rights are not the author's.
#pragma once

#include "base/file.h"

#include <string>
#include <sys/types.h>

namespace postrider {

struct NamedFile {
  FileDescriptor file;
  uid_t owner = 0;
};

// A regular file to be read, for the user who wrote its absolute path somewhere. Errc::refused,
// with the path and the reason, for
//  - a symbolic link on the way that is neither root's nor our own nor the author's;
//  - a file that everybody may write, or that lies on a file system of a user's (FUSE);
//  - a file that the author could not read: it is neither the author's nor readable by everybody.
//    Whoever owns a folder on the way can put another file there, so counts as an author too.
// Root may name what it likes. Never waits for a pipe or a lease.
Result<NamedFile> open_named_file(const std::string& path, uid_t author);

}  // namespace postrider
