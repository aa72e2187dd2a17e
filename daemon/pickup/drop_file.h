// One file of the drop folder, opened without trusting anything about it (attacks.md I12).
// Blocking: runs on the pool.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "daemon/protocol/submit_protocol.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace postrider::daemon {

struct DropEntry {
  std::string name;
  std::int64_t modified = 0;  // nanoseconds
  std::uint64_t uid = 0;
  std::uint64_t party = 0;
};

struct DropScan {
  // What waits there, each party's oldest first, parties in turn; at most what was asked for.
  std::vector<DropEntry> entries;
  std::size_t looked = 0;            // names of any kind
  std::vector<std::string> taken;    // names of taken files
  std::set<std::uint64_t> inodes;    // with `clean`: of these
  bool is_whole = true;              // all of them
  std::vector<std::string> removed;  // of refused ones, after their time
};
// Whose turn a file takes, and which of them comes first.
struct DropTurns {
  std::function<std::uint64_t(std::uint64_t uid)> party;  // empty: each user's own
  std::uint64_t first = 0;                                // or the next higher one that has files
  std::set<std::string, std::less<>> last;  // names that come behind all others of their party
};
// Looks at every name, so nobody can hide another's file behind his own; keeps only so many of each
// party. Entries of users in `held`, and names in `passed`, are left out. With `clean`, removes
// what nobody wants any more: unfinished files and names that are not ours after a day, refused
// ones after a week. Ages are those of the last change of any kind, which its owner cannot set
// back.
Result<DropScan> scan_drop_folder(const FileDescriptor& folder, std::int64_t now, std::size_t most,
                                  const std::set<std::uint64_t>& held = {},
                                  const std::set<std::string, std::less<>>& passed = {},
                                  bool clean = true, const DropTurns& turns = {});

// A file that passed every check: its header, its owner, and the descriptor where content begins.
struct DropFile {
  FileDescriptor file;
  SubmitHeader header;
  std::uint64_t content = 0;  // where it begins
  std::uint64_t uid = 0;
  std::uint64_t inode = 0;
};
// Errc::refused, Errc::malformed and Errc::too_long: the file will never be taken; other errors:
// try again later. `unfit`, if given, is set when it will never be taken and its header can be read
// all the same.
Result<DropFile> open_drop_file(const FileDescriptor& folder, const std::string& name,
                                std::uint64_t most_size, std::optional<DropFile>* unfit = nullptr);

}  // namespace postrider::daemon
