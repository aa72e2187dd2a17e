// A process that asks the tables of aliases and virtual users for a child of the parent: it is
// forked before that child becomes a user, who may not read them, and has no rights itself: the
// daemon's user, no capabilities, no programs, and nothing to write to.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "daemon/privsep/parent_checks.h"

#include <initializer_list>
#include <string_view>
#include <sys/types.h>

namespace postrider::daemon {

class TableReader {
 public:
  static void prepare();  // once, in the parent: what limits how many read at one time
  // closed: descriptors that are none of its business.
  Result<void> start(const ParentRules& rules, std::initializer_list<int> closed);
  // Whether the tables say what the job does. Errc::refused: they do not. job: an encoded LocalJob,
  // the very bytes that the child goes by: the daemon may still write to the file they came in.
  Result<void> ask(std::string_view job);
  void end();

 private:
  FileDescriptor socket_;
  pid_t pid_ = 0;
};

}  // namespace postrider::daemon
