// File systems that a user of the machine has mounted, by FUSE: a program of that user's answers
// for them, or never does. Whoever asks it anything waits for it, without a way to be killed; so
// what others have named is looked at by these, which ask no such file system anything. Between the
// look and the use nothing can be put in the place of what was looked at: it is open.
#pragma once

#include "base/file.h"

#include <cstdint>
#include <string>
#include <sys/stat.h>

namespace postrider {

// The mount that this is on; 0: not known.
std::uint64_t mount_of(const FileDescriptor& place);
// Whether a user other than root and us has mounted it.
bool is_users_mount(std::uint64_t mount);

enum class LastLink : std::uint8_t { follow, keep };
// O_PATH of what the path leads to, through links; keep: a link in the last place is what is found.
// Errc::refused, if that or anything on the way is on such a file system; else as open(2) fails.
Result<FileDescriptor> find_place(const std::string& path, LastLink last = LastLink::follow);
// The same place again, to be used.
Result<FileDescriptor> reopen(const FileDescriptor& place, int flags);
// What the path leads to, to be read: waits for no pipe, no terminal and no lease either.
Result<FileDescriptor> open_to_read(const std::string& path, LastLink last = LastLink::follow);
// Why one of these has failed, for whoever reads a configuration.
std::string why_unopened(const Error& error);
// As stat(2), or false with its errno; EACCES: it is on such a file system.
bool look_at(const std::string& path, struct stat& about);

// Of a folder in which others make what they like, on which they may mount what they like: names in
// it that are links, or on another mount than it is itself, are not followed and not asked. mount:
// that of the folder. False with errno; EXDEV: something is mounted there.
bool look_within(const FileDescriptor& folder, std::uint64_t mount, const std::string& name,
                 struct stat& about);
Result<FileDescriptor> open_within(const FileDescriptor& folder, const std::string& name,
                                   int flags);
// The same, in a folder in which root may have mounted something.
Result<FileDescriptor> open_beside(const FileDescriptor& folder, const std::string& name,
                                   int flags);

}  // namespace postrider
