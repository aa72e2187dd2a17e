// Receiving by SMTP: the certificates, the logins and the server of the listeners.
#pragma once

#include "daemon/address_tables.h"
#include "daemon/certificate_keeper.h"
#include "daemon/filter_parts.h"
#include "daemon/foundation.h"
#include "daemon/inherited.h"
#include "daemon/loop_threads.h"
#include "daemon/pickup/local_limits.h"
#include "daemon/privsep/parent_client.h"
#include "daemon/settings.h"
#include "daemon/worker_pools.h"
#include "smtpd/auth/auth_service.h"
#include "smtpd/auth/pam_helper.h"
#include "smtpd/message_store.h"
#include "smtpd/smtp_server.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace postrider::daemon {

class ReceivingParts {
 public:
  using NoteForReport = decltype(CheckParts::reports);

  // What it is made on; all outlive it.
  struct Base {
    Foundation& foundation;
    LoopThreads& loops;
    AddressTables& tables;
    FilterParts& filters;
    LocalLimits& limits;
    WorkerPools& pools;
    ParentClient& parent;
    NoteForReport note_for_report;  // called once sessions run
  };
  // spool: where logins keep what they count.
  ReceivingParts(Base base, const std::string& spool, std::vector<InheritedSocket> sockets);

  // As root: certificates and ports.
  void open(const Loaded& loaded, StartProblems& problems);
  // As the user, who must be able to read the files again at a reload.
  void open_logins(const Config& config, StartProblems& problems);
  void start() { server_->start(); }

  // What a new configuration asks for, read and checked; nothing has changed yet.
  struct Fresh {
    std::shared_ptr<const smtpd::auth::AuthService::Tables> logins;
    std::shared_ptr<const smtpd::ServerSettings> settings;
    std::vector<smtpd::ListenerSettings> listeners;
  };
  Result<Fresh> prepare(const Config& config, const ReceivingTables& tables);
  Result<void> relisten(const Fresh& fresh) { return server_->relisten(fresh.listeners); }
  void adopt(Fresh fresh);

  smtpd::Server& server() { return *server_; }
  smtpd::auth::AuthService& logins() { return *logins_; }
  CertificateKeeper& certificates() { return certificates_; }
  std::string listeners() const;  // for people

 private:
  Result<std::shared_ptr<const smtpd::ServerSettings>> settings(const Config& config,
                                                                const ReceivingTables& tables);

  const Base base_;
  std::vector<InheritedSocket> sockets_;
  std::shared_ptr<smtpd::auth::AuthService> logins_;
  smtpd::QueueCustody store_;
  CertificateKeeper certificates_;
  std::unique_ptr<smtpd::Server> server_;
};

}  // namespace postrider::daemon
