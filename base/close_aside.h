// Closes descriptors that somebody else has made. How long that takes may be theirs to say: the
// last close of a TCP socket that lingers waits for its peer, one of a file of FUSE for whoever
// serves it. So it is done by threads that have nothing else to do, of which one owner has a few
// only: who is slow, is so for what is his own. Thread-safe; never blocks, but where no thread can
// be had.
#pragma once

#include "base/file.h"

#include <cstddef>
#include <cstdint>

namespace postrider {

// owner: a number for whoever made it, such as a user id.
void close_aside(FileDescriptor descriptor, std::uint64_t owner = 0);
// How many of this owner's are not closed yet.
std::size_t closing_of(std::uint64_t owner);

}  // namespace postrider
