// Every part of the daemon, in the order in which they are made; they are unmade in the reverse. Each
// owns its state. Running makes and starts them, Reloader changes them, StopSequence ends them.
#pragma once

#include "daemon/address_tables.h"
#include "daemon/event_sinks.h"
#include "daemon/filter_parts.h"
#include "daemon/foundation.h"
#include "daemon/loop_threads.h"
#include "daemon/own_reports.h"
#include "daemon/own_rights.h"
#include "daemon/pickup/local_limits.h"
#include "daemon/privsep/parent_client.h"
#include "daemon/receiving_parts.h"
#include "daemon/reload_desk.h"
#include "daemon/sending_parts.h"
#include "daemon/signing_key_keeper.h"
#include "daemon/status_source.h"
#include "daemon/tool_doors.h"
#include "daemon/worker_pools.h"

#include <memory>
#include <optional>

namespace postrider::daemon {

struct Parts {
  Parts(const Config& config, std::shared_ptr<ParentClient> with_parent)
      : parent(std::move(with_parent)),
        filters(foundation.clock(), config.spool + "/greylist", keys.signer()) {}

  const std::shared_ptr<ParentClient> parent;
  OwnRights rights;
  Foundation foundation;
  LoopThreads loops;
  AddressTables tables;
  SigningKeyKeeper keys{foundation};
  FilterParts filters;
  std::optional<ReceivingParts> receiving;
  std::optional<SendingParts> sending;
  std::optional<LocalLimits> limits;
  std::optional<WorkerPools> pools;
  std::optional<OwnReports> reports;
  std::optional<EventSinks> sinks;
  std::optional<ReloadDesk> reloads;
  std::optional<RunningStatus> status;
  std::optional<ToolDoors> doors;
};

// What mail of this machine passes, by the configuration and the tables in use.
inline SubmitSettings local_settings(Parts& parts, const Config& config) {
  auto settings = submit_settings(config, parts.tables.in_use().receiving.rewriter, &*parts.limits,
                                  parts.keys.signer());
  settings.filters = parts.filters.for_machine(config, parts.tables.in_use().receiving);
  return settings;
}

}  // namespace postrider::daemon
