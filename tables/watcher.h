// Tables that follow their files: a changed file is read again within a second or two, on a thread
// of its own, so that no lookup waits for it. A file that has become bad, or is gone, leaves the
// table as it was and is told in the log, once.
#pragma once

#include "base/log.h"
#include "base/time.h"
#include "tables/table.h"

#include <memory>
#include <string>

namespace postrider::tables {

class Watcher {
 public:
  // log outlives this. every: how often files are looked at; a change must stand still for that
  // long.
  explicit Watcher(Log& log, Duration every = std::chrono::milliseconds(500));
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // The same spec and use may be opened again: the table is then watched twice. It lives, watched,
  // as long as somebody holds it; the watcher may end before. name: the option, for the log.
  Result<std::shared_ptr<const Table>> open(const std::string& spec, const Options& options,
                                            const std::string& name);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace postrider::tables
