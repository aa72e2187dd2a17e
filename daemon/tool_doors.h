// The doors for the tools of this machine: the control socket, the submission socket of sendmail,
// and the drop folder. Opened as the user; their work is done on the first loop.
#pragma once

#include "daemon/control/control_server.h"
#include "daemon/control/control_service.h"
#include "daemon/filter_parts.h"
#include "daemon/foundation.h"
#include "daemon/pickup/drop_folder.h"
#include "daemon/pickup/submit_server.h"
#include "daemon/protocol/effective.h"
#include "daemon/worker_pools.h"

#include <memory>
#include <optional>

namespace postrider::daemon {

class ToolDoors {
 public:
  // All outlive it.
  ToolDoors(Foundation& foundation, Loop& home, WorkerPools& pools, StatusSource& status);

  void open(const Config& config, const SubmitSettings& settings, StartProblems& problems);
  void start();  // before the loop runs
  void stop();   // on the loop
  // A reload, from any thread. readers: the group of control.readers.
  void reconfigure(SubmitSettings settings, std::optional<gid_t> readers);
  // Leaves beside the submission socket what the tools need of the configuration in use. They can
  // do without, as long as the configuration file is right.
  void publish_places(const Loaded& loaded);

 private:
  std::optional<gid_t> known_readers(const Config& config);

  Foundation& foundation_;
  Loop& home_;
  WorkerPools& pools_;
  StatusSource& status_;
  std::optional<ControlService> service_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<SubmitServer> submit_;
  std::unique_ptr<DropFolder> drop_;
  ToolPaths opened_;  // the spool and the sockets stay until a restart
  EffectiveFile effective_;
};

}  // namespace postrider::daemon
