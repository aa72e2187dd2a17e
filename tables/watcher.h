// Tables that follow their files: a changed file is read again within a second or two, on a thread
// of its own, so that no lookup waits for it. A file that has become bad, or is gone, leaves the
// table as it was and is reported in the log, once; it is tried again, ever less often, for what
// failed may have been the reading.
//
// Many programs write a file in place: for a moment it is empty, or ends within a line. A change
// must stand still before it is read; what looks unfinished must do so for longer, while the old
// table stays. Where there is no old one, for the file is opened for the first time, lookups fail
// for now until it is whole or has been at rest for that long by its own stamp. One that may be
// missing, and is, in a folder that has just been changed, is left out until then.
#pragma once

#include "base/log.h"
#include "base/time.h"
#include "tables/table.h"

#include <memory>
#include <string>
#include <vector>

namespace postrider::tables {

class Watcher {
 public:
  // log outlives this. every: how often files are looked at. A change must stand still for twice as
  // long, one that looks unfinished for twenty times; what failed is tried again after twice as
  // long, and then ever later, at most a hundred and twenty times.
  explicit Watcher(Log& log, Duration every = std::chrono::milliseconds(500));
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // Fails only if the specification cannot be parsed. A file that is bad from the start is reported
  // in the log, and lookups fail for now until it is mended; but a lenient one of another user than
  // root and ours is left out until then, for that user may not stop others' mail. A table that is
  // still held is given again, so that a reload never loses a good one. The watcher may end before
  // its tables. name: the option, for the log.
  Result<std::shared_ptr<const Table>> open(const std::string& spec, const Options& options,
                                            const std::string& name);

  // What is wrong with files that are not read as they are now, for people: the option, what counts
  // meanwhile, the place and the problem. Not of one that may be half written.
  std::vector<std::string> not_read() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace postrider::tables
