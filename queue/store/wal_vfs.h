// SQLite writes each frame of its log in two system calls, a header of 24 bytes and a page. Through
// this VFS the frames of a transaction are gathered and written in one, just before the sync.
// Nothing is read, synced, truncated or closed before what was gathered has been written, so what
// is durable, and in which order, stays as SQLite wants it. For the one writing connection: its
// frames are seen by others only after the sync that publishes them.
//
// A commit whose write or sync failed has not happened: where its frames reached the log all the
// same, they are cut off before the log is opened again in this process. Who does what it recorded
// once more would otherwise do it twice.
#pragma once

namespace postrider::queue {

// The name of such a VFS above the one named `base` (nullptr: the system's own); registered at the
// first call. Thread-safe.
const char* gathering_vfs(const char* base);

}  // namespace postrider::queue
