// The daemon from its start to its end. This is the only place that knows all folders.
//
//   prepare():  account, folders -> Landlock -> log, queue (as the user) -> sockets (as root)
//               -> user for good -> doors for the tools -> seccomp
//   serve():    threads, READY, then signals:
//               SIGHUP   a reload (reloader.h)
//               SIGTERM  the stop (stop_sequence.h)
#pragma once

#include "daemon/config/config_file.h"
#include "daemon/heap.h"
#include "daemon/heartbeat.h"
#include "daemon/inherited.h"
#include "daemon/log/events.h"
#include "daemon/notify.h"
#include "daemon/parts.h"
#include "daemon/reloader.h"
#include "daemon/start_problems.h"
#include "daemon/stop_sequence.h"

#include <memory>
#include <vector>

namespace postrider::daemon {

class Running {
 public:
  Running(Loaded loaded, std::vector<InheritedSocket> sockets, Events& events, Notifier& notifier,
          std::shared_ptr<ParentClient> parent);

  StartProblems prepare();  // once; with problems there is nothing to serve
  int serve();              // the exit code

 private:
  // prepare()
  void find_pam_helper(StartProblems& problems) const;
  void open_files(StartProblems& problems);
  void make_parts(StartProblems& problems);
  void make_event_sinks(StartProblems& problems);
  void open_status();
  void open_doors(StartProblems& problems);
  void restrict_own_calls(StartProblems& problems);

  // serve()
  void start_threads();
  void report_start();
  Duration pause() const;
  void look_around();
  void look_at_pam_helper();
  bool parent_is_gone();

  Events& events_;
  Notifier& notifier_;
  std::vector<InheritedSocket> sockets_;
  HeapKeeper heap_;
  Parts parts_;
  EventSinks::Made sinks_made_;  // of the start; they write to the log of the parts
  Reloader reloader_;
  Heartbeat heartbeat_;
  StopSequence stop_;
};

}  // namespace postrider::daemon
