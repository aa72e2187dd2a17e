// What mail passes on its way in, and what those filters keep over reloads: counters, the state of
// milters, the rates of clients and the greylist.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "daemon/settings.h"
#include "smtpd/filter/authentication.h"
#include "smtpd/filter/client_checks.h"
#include "smtpd/filter/header_checks.h"
#include "smtpd/filter/milter_filter.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::daemon {

class FilterParts {
 public:
  using Sources = std::vector<std::shared_ptr<const smtpd::filter::Source>>;

  // greylist_file: where the greylist is kept over a restart. clock outlives this.
  FilterParts(const Clock& clock, std::string greylist_file,
              std::shared_ptr<const mailauth::LiveSigner> signer);

  // For signatures, and for what headers are compared with; outlives the filters.
  void set_workers(BlockingPool* workers) { workers_ = workers; }

  // The filters of mail from the network, the signer last. Requires: set_workers().
  Sources for_network(const Config& config, const ReceivingTables& tables);
  // The same for mail of this machine: without a milter the signature needs no filter.
  Sources for_machine(const Config& config, const ReceivingTables& tables);
  // The checks of clients; null: nothing is checked.
  Result<std::shared_ptr<const smtpd::filter::Source>> of_clients(const Config& config,
                                                                  const ReceivingTables& tables);
  // Counts a failure of a client; empty: failures are not counted.
  std::function<void(const IpAddress&)> failure_counter(const Config& config);

  // It is a help, and no mail: without it clients come again.
  void read_greylist();
  void keep_greylist(const Config& config, Log& log);  // if it is time again
  void save_greylist(const Config& config, Log& log);

  smtpd::filter::AuthenticationCounters& authentication() { return authentication_; }
  const smtpd::filter::milter::MilterPeers& milter_peers() const { return milters_; }
  const smtpd::filter::ClientCheckState& client_state() const { return clients_; }

 private:
  void add_copies(const Config& config, const ReceivingTables& tables, Sources& filters) const;

  const Clock& clock_;
  const std::string greylist_file_;
  const std::shared_ptr<const mailauth::LiveSigner> signer_;
  BlockingPool* workers_ = nullptr;
  smtpd::filter::AuthenticationCounters authentication_;
  smtpd::filter::milter::MilterPeers milters_;
  smtpd::filter::ClientCheckState clients_;
  smtpd::filter::HeaderCheckCounters headers_;
  SteadyTime next_greylist_;  // when it is written
};

}  // namespace postrider::daemon
