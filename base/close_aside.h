// Closes descriptors that somebody else has made. How long that takes may be theirs to say: the
// last close of a TCP socket that lingers waits for its peer, one of a file of FUSE for whoever
// serves it. So it is done by threads that have nothing else to do. Thread-safe; never blocks, but
// where no thread can be had.
#pragma once

#include "base/file.h"

namespace postrider {

void close_aside(FileDescriptor descriptor);

}  // namespace postrider
