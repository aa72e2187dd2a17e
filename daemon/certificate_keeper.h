// The certificates of the listeners as they are offered: read at the start, and again at a reload or
// when their files change.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "daemon/certificates.h"
#include "daemon/start_problems.h"
#include "smtpd/smtp_server.h"

#include <functional>
#include <string>

namespace postrider::daemon {

// On one thread.
class CertificateKeeper {
 public:
  // Takes what is offered from now on; after an error the offer before it holds.
  using Use = std::function<Result<void>(const smtpd::TlsOffer& offer)>;

  // workers: for handshakes. All outlive this.
  CertificateKeeper(const Clock& clock, Log& log, BlockingPool& workers);

  void read(const Loaded& loaded, StartProblems& problems);
  void set_use(Use use) { use_ = std::move(use); }  // before change()
  // New files that are of no use leave the old certificates in place, and the log says why.
  Error change(const Config& config, const Origins& origins);
  // Reads the files again if they have changed. To be called now and then; most calls do nothing.
  void look(const Loaded& loaded);

  const smtpd::TlsOffer& offer() const { return offer_; }

 private:
  void log_all();
  void log_out_of_time();

  const Clock& clock_;
  Log& log_;
  Use use_;
  smtpd::TlsOffer offer_;
  SteadyTime next_look_;
  std::string stamp_;        // of the files that were read last
  std::string out_of_time_;  // fingerprints of those that the log has a line about
};

}  // namespace postrider::daemon
