// One file of the drop folder, opened without trusting anything about it (attacks.md I12).
// Blocking: runs on the pool.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "daemon/submit_protocol.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace postrider::daemon {

struct DropEntry {
  std::string name;
  std::int64_t modified = 0;  // nanoseconds
};
// What waits there but files of the users in `held`, oldest first, at most `most`; files left
// unfinished for a day are removed.
Result<std::vector<DropEntry>> scan_drop_folder(const FileDescriptor& folder, std::int64_t now,
                                                std::size_t most,
                                                const std::set<std::uint64_t>& held = {});

// A file that passed every check: its header, its owner, and the descriptor where content begins.
struct DropFile {
  FileDescriptor file;
  SubmitHeader header;
  std::uint64_t uid = 0;
};
// Errc::refused and Errc::malformed: the file is to be put aside; other errors: try again later.
Result<DropFile> open_drop_file(const FileDescriptor& folder, const std::string& name,
                                std::uint64_t most_size);

}  // namespace postrider::daemon
