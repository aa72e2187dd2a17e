// What one connection has done on a thread because it may wait for a disk or a directory, one job
// at a time. Lives on the connection's loop.
#pragma once

#include "smtpd/lookups.h"

#include <memory>

namespace postrider::smtpd {

class SideJobs {
 public:
  // limit: for each job. lookups outlives it.
  SideJobs(Loop& loop, Lookups& lookups, Duration limit)
      : loop_(loop), lookups_(lookups), limit_(limit) {}

  // The session waits, and nobody else on this loop. False: not in time, or given up.
  Task<bool> run(Lookups::Job job);
  // The job under way and every later one end at once, with false.
  void give_up();
  bool has_given_up() const { return has_given_up_; }

 private:
  Loop& loop_;
  Lookups& lookups_;
  Duration limit_;
  std::shared_ptr<Lookups::Wait> wait_;  // null: no job is under way
  bool has_given_up_ = false;
};

}  // namespace postrider::smtpd
