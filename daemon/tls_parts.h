// Composition of what outbound TLS has beside the connections: policies of domains (MTA-STS), daily
// reports, and what the last handshakes gave. Made by Running; its parts live on the first loop.
#pragma once

#include "base/net/blocking_pool.h"
#include "daemon/config/config.h"
#include "daemon/daily_reports.h"
#include "daemon/own_mail.h"
#include "delivery/tls/reports/reporter.h"
#include "delivery/tls/sts/mta_sts.h"
#include "delivery/tls/tls_history.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::daemon {

class TlsParts {
 public:
  // All references outlive this, and what it posted to the loop.
  TlsParts(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock, Log& log,
           BlockingPool& pool, const OwnMail& own_mail, const std::string& spool);

  // The error is about roots that cannot be read; then nothing has changed.
  Result<void> configure(const Config& config);                  // before the loop runs
  Result<std::function<void()>> prepared(const Config& config);  // to be run on the loop
  void start();  // before the loop runs; reads the disk
  void stop();   // on the loop
  void save();   // when the loop has ended; blocking

  delivery::StsSource sts() { return sts_->source(); }
  delivery::TlsObserver observer();

  // Any thread; answers run on the loop.
  void last_handshakes(std::string domain, std::function<void(std::vector<std::string>)> answer);
  DailyReports reports() { return {home_, reporter_}; }

 private:
  Loop& home_;
  std::shared_ptr<delivery::MtaSts> sts_;
  std::shared_ptr<delivery::TlsReporter> reporter_;
  std::shared_ptr<delivery::TlsHistory> history_;
};

}  // namespace postrider::daemon
