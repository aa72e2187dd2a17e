// Sending: credentials and trust for other servers, and the dispatcher of what the queue gives.
#pragma once

#include "daemon/address_tables.h"
#include "daemon/foundation.h"
#include "daemon/loop_threads.h"
#include "daemon/outbound.h"
#include "daemon/own_reports.h"
#include "daemon/pickup/local_limits.h"
#include "daemon/privsep/parent_client.h"
#include "daemon/settings.h"
#include "delivery/dispatcher.h"
#include "mailauth/signer.h"

#include <memory>
#include <string>
#include <vector>

namespace postrider::daemon {

class SendingParts {
 public:
  using Settings = std::shared_ptr<const delivery::DeliverySettings>;

  // What it is made on; all outlive it.
  struct Base {
    Foundation& foundation;
    LoopThreads& loops;
    AddressTables& tables;
    LocalLimits& limits;
    std::shared_ptr<ParentClient> parent;
    std::shared_ptr<const mailauth::LiveSigner> signer;
  };
  SendingParts(Base base, const std::string& spool);

  // listening: the addresses that the server has bound. Reads files; always on the same thread.
  Result<Settings> settings(const Config& config, const AddressTables::Opened& tables,
                            const std::vector<std::string>& listening);
  void make(const Settings& settings, OwnReports& reports);
  void restore();  // what the queue knows of sites
  void adopt(const Settings& settings) { dispatcher_->configure(settings); }
  // Any thread: no token is waited for any more.
  void stop_logins() { outbound_.stop(); }

  delivery::Dispatcher& dispatcher() { return *dispatcher_; }

 private:
  const Base base_;
  Outbound outbound_;
  std::unique_ptr<delivery::Dispatcher> dispatcher_;
};

}  // namespace postrider::daemon
